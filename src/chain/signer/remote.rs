//! The client of a signer outside of this process, over `softstake.signer.v1`.

use async_trait::async_trait;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::{KeyAlgorithm, PublicKey};
use crate::chain::remote::write_contents;
use crate::chain::{ChainError, Signer, Unsigned};
use crate::domain::ids::{ChainId, OperationId};
use crate::pb::signer::v1 as pb;
use crate::pb::signer::v1::signer_service_client::SignerServiceClient;

/// Longer than any signature or public key.
const MAX_BYTES: usize = 1_024;

/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// One key of a signer. Clones share the connection.
#[derive(Clone, Debug)]
pub struct RemoteSigner {
    client: SignerServiceClient<Channel>,
    chain: String,
    key_id: String,
}

impl RemoteSigner {
    /// The key named `key_id` of the signer behind `channel`, which bounds each request's time.
    pub fn new(channel: Channel, chain: &ChainId, key_id: &str) -> Self {
        let client = SignerServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        Self { client, chain: chain.to_string(), key_id: key_id.to_owned() }
    }

    /// The key's public half, `None` where it is that of a simulated chain, which has none. A read.
    pub async fn public_key(&self) -> Result<Option<PublicKey>, ChainError> {
        let request = pb::GetKeyRequest { chain: self.chain.clone(), key_id: self.key_id.clone() };
        let answer = self.client.clone().get_key(request).await.map_err(|status| failed(&status))?.into_inner();
        let (algorithm, length) = match answer.algorithm() {
            pb::KeyAlgorithm::Secp256k1 => (KeyAlgorithm::Secp256k1, 33),
            pb::KeyAlgorithm::Ed25519 => (KeyAlgorithm::Ed25519, 32),
            pb::KeyAlgorithm::Sr25519 => (KeyAlgorithm::Sr25519, 32),
            pb::KeyAlgorithm::Simulated => return Ok(None),
            pb::KeyAlgorithm::Unspecified => {
                return Err(ChainError::Untrusted("algorithm: the signer says none that is known".to_owned()));
            }
        };
        if answer.public_key.len() != length {
            let (name, found) = (algorithm.name(), answer.public_key.len());
            let problem = format!("public_key: {found} bytes, and a key of {name} has {length}");
            return Err(ChainError::Untrusted(problem));
        }
        Ok(Some(PublicKey { algorithm, bytes: answer.public_key }))
    }
}

/// What a status means, as the service's file has it.
fn failed(status: &Status) -> ChainError {
    let said = match status.message() {
        "" => status.code().description(),
        message => message,
    };
    match status.code() {
        Code::FailedPrecondition | Code::PermissionDenied => {
            ChainError::Refused(format!("the signer will not sign: {said}"))
        }
        code => ChainError::Unavailable(format!("the signer: {code:?}: {said}")),
    }
}

#[async_trait]
impl Signer for RemoteSigner {
    async fn sign(&self, id: &OperationId, unsigned: &Unsigned) -> Result<Vec<u8>, ChainError> {
        let request = pb::SignRequest {
            chain: self.chain.clone(),
            key_id: self.key_id.clone(),
            operation_id: id.to_string(),
            sign_bytes: unsigned.bytes.clone(),
            contents: Some(write_contents(&unsigned.says)),
        };
        let answer = self.client.clone().sign(request).await.map_err(|status| failed(&status))?.into_inner();
        if answer.signature.is_empty() || answer.signature.len() > MAX_BYTES {
            let problem = format!("signature: {} bytes are none", answer.signature.len());
            return Err(ChainError::Untrusted(problem));
        }
        Ok(answer.signature)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::transport::Server;
    use tonic::{Request, Response};

    use super::*;
    use crate::chain::remote::channel::channel;
    use crate::chain::signer::local::LocalSigner;
    use crate::domain::amount::BaseUnits;
    use crate::domain::ids::ValidatorId;
    use crate::domain::operation::OperationKind;
    use crate::domain::signing::{Decoded, Lifetime};
    use crate::pb::signer::v1::signer_service_server::{SignerService, SignerServiceServer};

    /// Holds one key, and does what it is set to.
    struct Desk {
        key: LocalSigner,
        algorithm: pb::KeyAlgorithm,
        refusal: Option<Code>,
        signature: Option<Vec<u8>>,
        asked: Arc<Mutex<Vec<pb::SignRequest>>>,
    }

    #[tonic::async_trait]
    impl SignerService for Desk {
        async fn get_key(&self, _: Request<pb::GetKeyRequest>) -> Result<Response<pb::GetKeyResponse>, Status> {
            let public_key = self.key.public_key().bytes;
            Ok(Response::new(pb::GetKeyResponse { algorithm: self.algorithm.into(), public_key }))
        }

        async fn sign(&self, request: Request<pb::SignRequest>) -> Result<Response<pb::SignResponse>, Status> {
            let request = request.into_inner();
            if let Some(code) = self.refusal {
                return Err(Status::new(code, "not today"));
            }
            let signature = self.signature.clone().unwrap_or_else(|| self.key.signature(&request.sign_bytes));
            self.asked.lock().unwrap().push(request);
            Ok(Response::new(pb::SignResponse { signature }))
        }
    }

    async fn signer(change: impl FnOnce(&mut Desk)) -> (RemoteSigner, Arc<Mutex<Vec<pb::SignRequest>>>) {
        let key = LocalSigner::of(KeyAlgorithm::Secp256k1, &[7; 32]).unwrap();
        let (algorithm, asked) = (pb::KeyAlgorithm::Secp256k1, Arc::default());
        let mut desk = Desk { key, algorithm, refusal: None, signature: None, asked: Arc::clone(&asked) };
        change(&mut desk);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = Server::builder().add_service(SignerServiceServer::new(desk));
        tokio::spawn(served.serve_with_incoming(TcpListenerStream::new(listener)));
        let channel = channel(&url, None, Duration::from_secs(10)).unwrap();
        (RemoteSigner::new(channel, &ChainId::new("cosmoshub-4").unwrap(), "atom-hot"), asked)
    }

    fn unsigned() -> (OperationId, Unsigned) {
        let intent = OperationKind::Claim { validator: Some(ValidatorId::new("v1").unwrap()) };
        let lifetime = Lifetime { nonce: Some(3), expires_at: None, expires_height: Some(9) };
        let max_fee = BaseUnits::from_u64(20);
        let says = Decoded { intent, sender: "us".to_owned(), recipient: None, max_fee, lifetime };
        (OperationId::new("atom:claim:1:v1").unwrap(), Unsigned { bytes: b"bytes to sign".to_vec(), says })
    }

    #[tokio::test]
    async fn the_signer_gets_the_bytes_beside_what_they_say() {
        let (signer, asked) = signer(|_| {}).await;
        let key = LocalSigner::of(KeyAlgorithm::Secp256k1, &[7; 32]).unwrap();
        assert_eq!(signer.public_key().await, Ok(Some(key.public_key())));
        let (id, unsigned) = unsigned();
        assert_eq!(signer.sign(&id, &unsigned).await, Ok(key.signature(b"bytes to sign")));
        let asked = asked.lock().unwrap().pop().unwrap();
        assert_eq!((asked.chain.as_str(), asked.key_id.as_str()), ("cosmoshub-4", "atom-hot"));
        assert_eq!(
            (asked.operation_id.as_str(), asked.sign_bytes.as_slice()),
            ("atom:claim:1:v1", &b"bytes to sign"[..])
        );
        assert_eq!(asked.contents, Some(write_contents(&unsigned.says)));
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_silence_is_not() {
        let (id, unsigned) = unsigned();
        for (code, refused) in [
            (Code::FailedPrecondition, true),
            (Code::PermissionDenied, true),
            (Code::NotFound, false),
            (Code::Unavailable, false),
            (Code::DeadlineExceeded, false),
            (Code::ResourceExhausted, false),
            (Code::Unauthenticated, false),
            (Code::Internal, false),
        ] {
            let (signer, _) = signer(|desk| desk.refusal = Some(code)).await;
            match signer.sign(&id, &unsigned).await {
                Err(ChainError::Refused(why)) => assert!(refused && why.ends_with("not today"), "{code:?}: {why}"),
                Err(ChainError::Unavailable(why)) => assert!(!refused && why.ends_with("not today"), "{code:?}: {why}"),
                other => panic!("{code:?}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_signature_and_no_key_is_not_believed() {
        let (id, unsigned) = unsigned();
        for signature in [Vec::new(), vec![1; MAX_BYTES + 1]] {
            let (signer, _) = signer(|desk| desk.signature = Some(signature)).await;
            assert!(matches!(signer.sign(&id, &unsigned).await, Err(ChainError::Untrusted(_))));
        }
        for algorithm in [pb::KeyAlgorithm::Unspecified, pb::KeyAlgorithm::Ed25519] {
            let (signer, _) = signer(|desk| desk.algorithm = algorithm).await;
            assert!(matches!(signer.public_key().await, Err(ChainError::Untrusted(_))));
        }
    }
}
