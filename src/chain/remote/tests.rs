//! The client against the other side, over a socket on this machine.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::*;
use crate::chain::simulated::tests::ticking;
use crate::chain::simulated::{SimulatedChain, presets};
use crate::domain::amount::BaseUnits;
use crate::domain::ids::{TransferId, ValidatorId};

const SECOND: Duration = Duration::from_secs(10);

async fn remote(page: u32) -> (RemoteAdapter, SimulatedChain) {
    let chain = ticking(presets::atom());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = Server::builder().add_service(serve::adapter(Arc::new(chain.clone())));
    tokio::spawn(served.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
    let channel = channel::channel(&url, None, SECOND).unwrap();
    (RemoteAdapter::new(channel).with_pages_of(page), chain)
}

async fn head(chain: &dyn ChainAdapter) -> u64 {
    chain.observe().await.unwrap().height
}

#[tokio::test]
async fn it_says_what_the_chain_says() {
    let (remote, chain) = remote(2).await;
    assert_eq!(remote.descriptor().await, chain.descriptor().await);
    let transfer = TransferId::new("t-1").unwrap();
    chain.custody_send(&transfer, BaseUnits::from_u64(1_000_000)).await.unwrap();
    while remote.observe().await.unwrap().liquid.is_zero() {}

    let id = OperationId::new("atom:delegate:1:0").unwrap();
    let validator = ValidatorId::new("atom-validator-000").unwrap();
    let kind = OperationKind::Delegate { validator, amount: BaseUnits::from_u64(500_000) };
    let unsigned = remote.prepare(&id, &kind).await.unwrap();
    assert_eq!(unsigned.says.intent, kind);
    let signature = crate::chain::Signer::sign(&chain.signer(), &id, &unsigned).await.unwrap();
    let wrong = remote.assemble(&id, &unsigned, &[0; 32]).await;
    assert!(matches!(wrong, Err(ChainError::Untrusted(_))), "{wrong:?}");
    let Assembled { signed, says } = remote.assemble(&id, &unsigned, &signature).await.unwrap();
    assert_eq!(says, unsigned.says);
    assert_eq!(remote.lookup(&id, &signed).await, Ok(Lookup::Absent));
    remote.submit(&id, &signed).await.unwrap();
    remote.submit(&id, &signed).await.unwrap();
    let (height, effects) = loop {
        match remote.lookup(&id, &signed).await.unwrap() {
            Lookup::Pending => {}
            Lookup::Done { height, effects } => break (height, effects),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(chain.lookup(&id, &signed).await, Ok(Lookup::Done { height, effects }));
    let to = head(&remote).await;
    let all = chain.effects(0, to).await.unwrap();
    assert!(all.len() > 2, "more than one page");
    assert_eq!(remote.effects(0, to).await, Ok(all));
}

#[tokio::test]
async fn refusals_and_silence_keep_their_meaning() {
    let (remote, _chain) = remote(10).await;
    let id = OperationId::new("atom:claim:1:all").unwrap();
    let refused = remote.prepare(&id, &OperationKind::Claim { validator: None }).await;
    assert_eq!(refused, Err(ChainError::Refused("this chain has no such operation".into())));
    let beyond = remote.effects(0, u64::MAX).await;
    assert!(matches!(&beyond, Err(ChainError::Refused(_))), "{beyond:?}");
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = RemoteAdapter::new(channel::channel(&format!("http://{nobody}"), None, SECOND).unwrap());
    assert!(matches!(nobody.observe().await, Err(ChainError::Unavailable(_))));
    // Who takes the connection and says nothing is given up.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let silent = RemoteAdapter::new(channel::channel(&url, None, Duration::from_millis(50)).unwrap());
    assert!(matches!(silent.observe().await, Err(ChainError::Unavailable(_))));
}

#[test]
fn only_what_grpc_never_makes_itself_is_for_good() {
    for code in 1..17 {
        let meant = failed(&Status::new(Code::from_i32(code), "why"));
        match Code::from_i32(code) {
            Code::FailedPrecondition | Code::InvalidArgument => assert_eq!(meant, ChainError::Refused("why".into())),
            Code::DataLoss => assert_eq!(meant, ChainError::Untrusted("why".into())),
            _ => assert!(matches!(meant, ChainError::Unavailable(_)), "{code}"),
        }
    }
}
