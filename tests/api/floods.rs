//! Floods against the real binary: its memory is bounded, an honest client is answered within its deadline all the while,
//! and the service ends in time with the floods still connected.
//!
//! The counts are those of an ordinary run of the tests; `.ci/long floods` multiplies them (`SOFTSTAKE_FLOODS`).

mod target;

use std::time::Duration;

use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use softstake::cli::floods::{self as attack, Door, Held};
use softstake::client::{Client, Options, Tls};
use softstake::node::dev_certs::DevCerts;

use self::target::{Target, now};
use crate::harness::{DAY, Setup, time};

/// By how much the service's memory may grow, whatever is sent to it.
const MOST_GROWTH_KIB: u64 = 200 * 1024;

/// How long an honest call may take, its retries included.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a shutdown may take past the drain time: the last checkpoint, on a machine that is busy.
const DRAIN_MARGIN: Duration = Duration::from_secs(10);

/// The accounts that are paid, so that a stream of payouts holds megabytes.
const ACCOUNTS: usize = 10_000;

/// All limits are the defaults but for the waits, which are shorter, and the connections of one address: everyone here comes
/// from the same.
const LIMITS: &str = "max_connections_per_address = 1024\nhandshake_timeout_ms = 3000\nunread_timeout_ms = 3000\n\
                      drain_timeout_ms = 3000";

/// How many times more than in an ordinary run.
fn scale() -> usize {
    std::env::var("SOFTSTAKE_FLOODS").ok().map_or(1, |times| times.parse().unwrap())
}

fn setup() -> Setup {
    Setup::new().limits(LIMITS).pool("atom", "")
}

/// Has ten thousand payouts released.
async fn pay(client: &Client) {
    use crate::harness::START;
    let events = |from: usize| {
        let event = |n: usize| softstake::client::BalanceEvent {
            account: format!("customer-{n:08}"),
            asset: "ATOM".to_owned(),
            base_units: 5_000_000_000,
            event_seconds: START,
        };
        (from..from + 5_000).map(event).collect::<Vec<_>>()
    };
    let mut feed = client.feed("sources/ledger").await.unwrap();
    for from in (0..ACCOUNTS).step_by(5_000) {
        feed.send(events(from), None).await.unwrap();
    }
    feed.flush().await.unwrap();
    let patient = client.with_deadline(Duration::from_secs(300));
    patient.advance_time(time(START + DAY)).await.unwrap();
    feed.send(Vec::new(), Some(START + DAY)).await.unwrap();
    feed.flush().await.unwrap();
    patient.advance_time(time(START + DAY + 1_200)).await.unwrap();
}

/// An honest ledger reads every payout.
async fn read_payouts(client: &Client) -> usize {
    let mut reader = client.payouts("pools/atom", "").until_caught_up();
    let mut read = 0;
    while let Some(batch) = reader.next().await.unwrap() {
        read += batch.payouts.len();
    }
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_are_bounded_in_memory_and_time_and_honest_callers_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let setup = setup();
    let mut target = Target::start(folder.path(), None, |data, port| setup.toml(data, port)).await;
    let client = target.client().await;
    pay(&client).await;
    assert_eq!(read_payouts(&client).await, ACCOUNTS);
    target.is_quiet();
    let (door, times) = (Door::of(target.address()), scale());
    let door = &door;
    let mut held = Held::default();

    let flood = attack::streams(door, 10_000, 0);
    let streams = target.beside_honest_calls("streams", flood).await.unwrap();
    target.kept_its_memory("10,000 streams");
    assert!(target.refused("max_open_streams").await > 0);
    drop(streams);

    let flood = attack::rapid_resets(door, 20_000 * times);
    let (resets, enough) = target.beside_honest_calls("resets", flood).await.unwrap();
    println!("{enough} connections were closed for their resets");
    target.kept_its_memory("rapid resets");
    held.and(resets);

    const MOST_HEADERS: usize = 4 << 20;
    let floods: FuturesUnordered<_> = (0..50 * times).map(|_| attack::continuation(door, MOST_HEADERS)).collect();
    let sent: Vec<usize> = target.beside_honest_calls("continuation", floods.try_collect()).await.unwrap();
    target.kept_its_memory("headers without an end");
    let most = sent.iter().max().copied().unwrap_or_default();
    println!("at most {most} bytes of headers without an end were taken");
    assert!(most < MOST_HEADERS, "headers went on without an end");

    let floods: FuturesUnordered<_> = (0..10).map(|_| attack::empty_data(door, 20_000 * times)).collect();
    let open: Vec<Held> = target.beside_honest_calls("empty data", floods.try_collect()).await.unwrap();
    target.kept_its_memory("empty frames");
    for mut open in open {
        assert!(attack::is_closed(&mut open.connections[0]).await, "empty frames went on without an end");
    }

    // The stated length is a gibibyte, or nothing is said that is true.
    let floods: FuturesUnordered<_> = (0..32).map(|n| attack::huge(door, (1 << 30) >> (n % 2 * 9))).collect();
    let taken: Vec<(Held, usize)> = target.beside_honest_calls("huge messages", floods.try_collect()).await.unwrap();
    target.kept_its_memory("messages of 1 GiB");
    for (open, taken) in taken {
        assert!(taken <= 8 << 20, "{taken} bytes of one message were taken");
        held.and(open);
    }
    assert!(target.refused("max_message_bytes").await > 0);

    // Two batches of a megabyte each for every stream, which nobody reads.
    let flood = attack::streams(door, 300 * times.min(3), ACCOUNTS as i32 / 2);
    let slow = target.beside_honest_calls("slow readers", flood).await.unwrap();
    let reading = async {
        let honest = target.client().await;
        let began = now();
        while read_payouts(&honest).await != ACCOUNTS {}
        while slow.closed() == 0 && began.elapsed() < Duration::from_secs(60) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    target.beside_honest_calls("slow readers that stay", reading).await;
    target.kept_its_memory("slow readers");
    // The others' streams have ended: there was no room for what they did not read.
    assert!(slow.closed() > 0, "who does not read is cut off");
    drop(slow);
    assert!(target.refused("unread_timeout_ms").await > 0);

    let flood = attack::tiny_pages(door, 10_000 * times, 20, 100);
    let (answered, refused) = target.beside_honest_calls("tiny pages", flood).await.unwrap();
    println!("{answered} pages were answered and {refused} refused");
    target.kept_its_memory("tiny pages");

    // What of it is still connected does not hold the end up, nor do those who never said a word.
    held.and(attack::streams(door, 200, ACCOUNTS as i32 / 2).await.unwrap());
    held.and(attack::silence(door, 100).await);
    target.stop(folder.path(), Duration::from_secs(3) + DRAIN_MARGIN).await;
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_handshakes_keep_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let certs = DevCerts::make(&["localhost".to_owned()], Duration::from_secs(86_400)).unwrap();
    for (name, text, _) in certs.files(folder.path().to_str().unwrap()) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let caller = &certs.clients[0];
    let roles: Vec<String> = certs.clients.iter().map(|client| format!("\"{}\"", client.role)).collect();
    let identity = format!(
        "[[principals]]\nname = \"honest\"\nroles = [{}]\nsans = [\"URI:softstake://dev/{}\"]\n",
        roles.join(", "),
        caller.role
    );
    std::fs::write(folder.path().join("identity.toml"), identity).unwrap();
    let tls = Tls::new(certs.ca()).with_identity(caller.pair.cert.clone(), caller.pair.key.clone());
    let options = Options { tls: Some(tls), ..Options::default() };
    let at = folder.path().display();
    let setup = setup().top(&format!(
        "[tls]\ncert_file = \"{at}/server.pem\"\nkey_file = \"{at}/server.key\"\nclient_ca_file = \"{at}/ca.pem\"\n\
         [identity]\nfile = \"{at}/identity.toml\""
    ));
    let mut target = Target::start(folder.path(), Some(options), |data, port| setup.toml(data, port)).await;
    target.is_quiet();
    let door = Door::of(target.address());
    let mut silent = target
        .beside_honest_calls("silent handshakes", async {
            let silent = attack::silence(&door, 2_000).await;
            // Whoever comes new is let in all the same.
            drop(target.client().await);
            tokio::time::sleep(Duration::from_secs(4)).await;
            silent
        })
        .await;
    target.kept_its_memory("silent handshakes");
    for stream in &mut silent.connections {
        assert!(attack::is_closed(stream).await, "a silent connection is kept");
    }
    assert!(target.refused("handshake_timeout_ms").await + target.refused("max_handshakes").await > 0);
    let held = attack::silence(&door, 100).await;
    target.stop(folder.path(), Duration::from_secs(3) + DRAIN_MARGIN).await;
    drop(held);
}
