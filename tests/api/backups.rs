//! Backups of a running service, and what comes back of one.

use std::path::Path;
use std::process::{Command, Output};

use prost::Message;
use softstake::client::ClientError;
use softstake::pb::v1;

use crate::harness::{DAY, Event, HOUR, Server, Setup, units};

const MILLION: u128 = 1_000_000_000_000;

fn softstake(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_softstake")).args(args).output().unwrap()
}

/// What a command that fails says.
fn failure(args: &[&str]) -> String {
    let output = softstake(args);
    assert!(!output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn success(args: &[&str]) -> String {
    let output = softstake(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn backup(server: &Server, request_id: &str, archive: &str) -> Result<v1::BackupResponse, (tonic::Code, String)> {
    let request = v1::BackupRequest { request_id: request_id.to_owned(), archive: archive.to_owned() };
    server.client.backup(request).await.map_err(|error| match error {
        ClientError::Refused(refusal) => (refusal.code, refusal.reason),
        other => panic!("{other}"),
    })
}

async fn serving(folder: &Path) -> Server {
    let top = format!("backup_dir = \"{}\"", folder.display());
    Setup::new().top(&top).pool("atom", "fee_bps = 1000").start().await
}

/// The positions, and how far the ledger's feed is durable.
async fn state(server: &Server) -> Vec<Vec<u8>> {
    let mut state = Vec::new();
    for account in ["alice", "bob", "carol"] {
        state.push(server.position(account, "atom").await.encode_to_vec());
    }
    state.push(cursor(server).await.encode_to_vec());
    state
}

async fn cursor(server: &Server) -> v1::GetCursorResponse {
    server.client.get_cursor(v1::GetCursorRequest { source: "sources/ledger".to_owned() }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_written_once_under_a_name_that_leaves_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let server = serving(folder.path()).await;
    let first = backup(&server, "b-1", "monday").await.unwrap();
    let bytes = std::fs::read(folder.path().join("monday")).unwrap();
    assert_eq!(first.path, folder.path().join("monday").to_str().unwrap());
    assert_eq!((first.size_bytes, first.hash.as_slice()), (bytes.len() as u64, &blake3::hash(&bytes).as_bytes()[..]));
    assert_eq!(backup(&server, "b-1", "monday").await, Ok(first));
    let refused = |code, reason: &str| Err((code, reason.to_owned()));
    assert_eq!(backup(&server, "b-1", "tuesday").await, refused(tonic::Code::AlreadyExists, "REQUEST_ID_REUSED"));
    assert_eq!(backup(&server, "b-2", "monday").await, refused(tonic::Code::AlreadyExists, "ALREADY_EXISTS"));
    for bad in ["../monday", "/tmp/monday", ".monday", "tuesday.unfinished"] {
        let (code, _) = backup(&server, "b-3", bad).await.unwrap_err();
        assert_eq!(code, tonic::Code::InvalidArgument, "{bad}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let listed = v1::ListAuditEventsRequest { resource: "backups/monday".to_owned(), ..Default::default() };
    let events = server.client.list_audit_events(listed).await.unwrap().audit_events;
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].after.contains(&blake3::hash(&bytes).to_hex().to_string()), "{events:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_folder_there_are_no_backups() {
    let server = Setup::new().pool("atom", "").start().await;
    let refused = backup(&server, "b-1", "monday").await.unwrap_err();
    assert_eq!(refused, (tonic::Code::FailedPrecondition, "WRONG_STATE".to_owned()));
    server.stop().await;
}

/// What the ledger sent after the backup it sends again, from where the restored service says that it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_service_is_fenced_and_the_feed_brings_back_what_came_after_the_backup() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = serving(folder.path()).await;
    server.at(HOUR).await;
    server.feed(&[Event("alice", "ATOM", MILLION, 0), Event("bob", "ATOM", MILLION / 3, 60)], Some(60)).await;
    let at_backup = cursor(&server).await;
    backup(&server, "b-1", "monday").await.unwrap();
    let later = [Event("bob", "ATOM", MILLION / 2, 120), Event("carol", "ATOM", MILLION / 7, 180)];
    server.feed(&later, Some(180)).await;
    let whole = state(&server).await;
    assert_ne!(cursor(&server).await, at_backup);

    let archive = folder.path().join("monday");
    let archive = archive.to_str().unwrap();
    server
        .restart_after(|data| {
            let to = data.to_str().unwrap();
            assert!(failure(&["restore", "--from", archive, "--to", to]).contains("exists already"));
            std::fs::remove_dir_all(data.join("store")).unwrap();
            let damaged = folder.path().join("damaged");
            let mut bytes = std::fs::read(archive).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&damaged, bytes).unwrap();
            assert!(failure(&["restore", "--from", damaged.to_str().unwrap(), "--to", to]).contains("damaged"));
            assert!(!data.join("store").exists());
            assert!(success(&["restore", "--from", archive, "--to", to]).contains("fenced"));
            assert!(failure(&["audit", "verify", "--data-dir", to]).contains("fenced"));
            assert!(failure(&["restore", "--unfence", "--to", to]).contains("--reason"));
            success(&["restore", "--unfence", "--to", to, "--reason", "the disk is gone"]);
            assert!(success(&["restore", "--unfence", "--to", to, "--reason", "again"]).contains("has no fence"));
            success(&["audit", "verify", "--data-dir", to]);
        })
        .await;
    assert_eq!(cursor(&server).await, at_backup);
    server.feed(&later, Some(180)).await;
    assert_eq!(state(&server).await, whole);
    server.reconciled("atom").await;
    server.resume("atom").await;
    server.close(DAY).await;
    server.reconciled("atom").await;
    server.stop().await;
}

/// The store is lost, and another one is made of an archive.
fn lose_and_restore(data: &Path, archive: &Path) {
    let (to, archive) = (data.to_str().unwrap(), archive.to_str().unwrap());
    std::fs::remove_dir_all(data.join("store")).unwrap();
    success(&["restore", "--from", archive, "--to", to]);
    assert!(
        success(&["restore", "--unfence", "--to", to, "--reason", "the disk is gone"])
            .contains("its pools are held (1)")
    );
}

/// Between the backup and the loss custody sent tokens, and the chain took stake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_after_the_backup_is_told_and_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = serving(folder.path()).await;
    server.at(HOUR).await;
    server.feed(&[Event("alice", "ATOM", MILLION, 0)], Some(60)).await;
    server.at(2 * HOUR).await;
    backup(&server, "b-1", "monday").await.unwrap();
    let (before, operations) = (server.chain("atom").await, server.operations("atom").await.len());
    let bob = [Event("bob", "ATOM", MILLION, 2 * HOUR)];
    server.feed(&bob, Some(2 * HOUR)).await;
    server.at(3 * HOUR).await;
    server.at(3 * HOUR + 600).await;
    let lost = server.chain("atom").await;
    assert!(units(&lost.funded) > units(&before.funded) && units(&lost.delegated) > units(&before.delegated));

    let archive = folder.path().join("monday");
    server.restart_after(|data| lose_and_restore(data, &archive)).await;
    server.feed(&bob, Some(2 * HOUR)).await;
    server.at(3 * HOUR + 1_800).await;
    let pool = server.pool("atom").await;
    assert_eq!(pool.state(), v1::PoolState::Paused);
    assert!(pool.restored.unwrap().agreed_height > 0, "{pool:?}");
    for told in ["restored from a backup", "which was asked for after the backup", "is explained by no operation"] {
        assert!(pool.pause_reason.contains(told), "{told}: {}", pool.pause_reason);
    }
    let held = server.chain("atom").await;
    assert_eq!((&held.funded, &held.delegated), (&lost.funded, &lost.delegated));
    assert_eq!(server.operations("atom").await.len(), operations, "nothing was planned");
    let listed = v1::ListAuditEventsRequest { resource: "pools/atom".to_owned(), ..Default::default() };
    let events = server.client.list_audit_events(listed).await.unwrap().audit_events;
    assert!(events.iter().any(|event| event.principal.starts_with("host:") && event.after.starts_with("RESTORED")));

    server.reconciled("atom").await;
    assert_eq!(server.resume("atom").await.restored, None);
    server.at(4 * HOUR).await;
    let after = server.chain("atom").await;
    assert_eq!((&after.funded, &after.delegated), (&lost.funded, &lost.delegated));
    server.reconciled("atom").await;
    server.close(DAY).await;
    server.reconciled("atom").await;
    server.stop().await;
}

/// What the ledger has credited after the backup comes out the same again: by its names it knows what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payouts_of_the_lost_time_come_again_to_the_base_unit() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = serving(folder.path()).await;
    server.at(HOUR).await;
    server.feed(&[Event("alice", "ATOM", MILLION, 0), Event("bob", "ATOM", MILLION / 3, 60)], Some(60)).await;
    server.at(DAY - 2 * HOUR).await;
    backup(&server, "b-1", "monday").await.unwrap();
    server.close(DAY).await;
    let paid = server.released("atom").await;
    assert_eq!(paid.iter().map(|batch| batch.payouts.len()).sum::<usize>(), 2, "{paid:?}");

    let archive = folder.path().join("monday");
    server.restart_after(|data| lose_and_restore(data, &archive)).await;
    server.feed(&[], Some(DAY)).await;
    server.at(DAY + 1_200).await;
    assert!(server.released("atom").await.is_empty(), "nothing is paid before the pool is resumed");
    server.reconciled("atom").await;
    server.resume("atom").await;
    server.at(DAY + 1_800).await;
    assert_eq!(server.released("atom").await, paid);
    server.stop().await;
}

/// A service that died between the archive and its answer has forgotten that it wrote it; so has one that was restored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_whose_answer_was_lost_is_answered_when_it_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = serving(folder.path()).await;
    let at = |name: &str| folder.path().join(name);
    backup(&server, "b-0", "sunday").await.unwrap();
    server.at(HOUR).await;
    let first = backup(&server, "b-1", "monday").await.unwrap();
    std::fs::write(at("tuesday.unfinished"), "cut off").unwrap();
    std::fs::write(at("notes"), "kept").unwrap();
    server.restart_after(|data| lose_and_restore(data, &at("sunday"))).await;
    assert!(!at("tuesday.unfinished").exists() && at("notes").exists());
    server.at(2 * HOUR).await;

    let exists = || Err((tonic::Code::AlreadyExists, "ALREADY_EXISTS".to_owned()));
    assert_eq!(backup(&server, "b-2", "monday").await, exists());
    assert_eq!(backup(&server, "b-1", "notes").await, exists());
    assert_eq!(backup(&server, "b-1", "monday").await, Ok(first.clone()));
    assert_eq!(backup(&server, "b-1", "monday").await, Ok(first));
    // One that is not whole any more is nobody's.
    let whole = std::fs::read(at("sunday")).unwrap();
    std::fs::write(at("sunday"), &whole[..whole.len() - 1]).unwrap();
    assert_eq!(backup(&server, "b-0", "sunday").await, exists());
    server.stop().await;
}
