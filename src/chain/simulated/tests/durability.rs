//! The log: what is answered is there after a restart, and what is broken is named.

use std::sync::Arc;

use super::*;
use crate::chain::simulated::SimulatedFault;

/// A chain with some history on it.
async fn lived(name: &str) -> Rig {
    let mut rig = Rig::funded(preset(name), tokens(&preset(name), 9_000_000)).await;
    rig.done(rig.delegate(0, tokens(&rig.config, 4_000_000))).await;
    rig.done(rig.delegate(1, tokens(&rig.config, 1_000_000))).await;
    rig.pass(2 * DAY);
    rig.done(rig.undelegate(0, tokens(&rig.config, 500_000))).await;
    let validator = rig.validator(0);
    rig.chain.set_fault(SimulatedFault::Slash { validator, fraction: "0.01".parse().unwrap() }).await.unwrap();
    rig.chain.set_fault(SimulatedFault::Donate { amount: amount(7) }).await.unwrap();
    rig.pass(DAY + 1);
    rig
}

#[tokio::test]
async fn a_reopened_chain_is_the_same_and_goes_on() {
    for name in presets::NAMES {
        let mut rig = lived(name).await;
        let id = rig.id();
        let signed = rig.signed(&id, &rig.delegate(2, tokens(&rig.config, 1_000_000))).await.unwrap();
        rig.chain.submit(&id, &signed).await.unwrap();
        let before = (rig.observe().await, rig.totals().await, rig.effects().await);
        let state = rig.chain.core.lock().unwrap().state.clone();
        rig.reopen();
        rig.observe().await;
        assert_eq!(rig.chain.core.lock().unwrap().state, state);
        assert_eq!((rig.observe().await, rig.totals().await, rig.effects().await), before);
        assert_eq!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Pending));
        rig.settle();
        assert!(matches!(rig.chain.lookup(&id, &signed).await, Ok(Lookup::Done { .. })));
        rig.chain.submit(&id, &signed).await.unwrap();
        rig.pass(40 * DAY);
        rig.done(rig.delegate(3, tokens(&rig.config, 500_000))).await;
        rig.audit().await;
    }
}

#[tokio::test]
async fn the_chain_does_not_go_back_behind_its_last_input() {
    let mut rig = Rig::funded(preset("atom"), 1_000_000_000).await;
    rig.done(rig.delegate(0, 1_000_000)).await;
    rig.pass(DAY);
    let before = rig.totals().await;
    rig.chain.set_fault(SimulatedFault::Donate { amount: amount(7) }).await.unwrap();
    rig.pass(-DAY);
    rig.reopen();
    assert_eq!(rig.totals().await, before);
    rig.pass(DAY + 6);
    assert_eq!(rig.totals().await.donated, amount(7));
    rig.audit().await;
}

#[tokio::test]
async fn the_file_holds_the_chain_and_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("atom.chain");
    let clock = Arc::new(TestClock(AtomicI64::new(START * 1000)));
    let open = |config| SimulatedChain::open(&path, config, clock.clone());
    let chain = open(preset("atom")).unwrap();
    let transfer = TransferId::new("fund").unwrap();
    chain.custody_send(&transfer, amount(1_000_000)).await.unwrap();
    assert!(matches!(open(preset("atom")), Err(ChainError::Refused(why)) if why.contains("open elsewhere")));
    drop(chain);
    assert!(
        matches!(open(preset("atom").with_seed(2)), Err(ChainError::Refused(why)) if why.contains("another configuration"))
    );
    let chain = open(preset("atom")).unwrap();
    clock.0.fetch_add(12_000, Ordering::Relaxed);
    assert_eq!(chain.observe().await.unwrap().liquid, amount(1_000_000));
    // Delays are not part of what the log was written with.
    drop(chain);
    let mut slower = preset("atom");
    slower.finality_delay_seconds = 30;
    open(slower).unwrap();
}

#[tokio::test]
async fn a_torn_last_record_is_dropped_and_nothing_else() {
    let rig = lived("atom").await;
    let whole = rig.disk.contents();
    // The donation was the last record; without it the log ends where that began.
    let donation = 4 + 4 + 8 + 4 + (8 + 8 + 1 + 16) + 4;
    let open = |bytes: Vec<u8>| {
        let disk = MemoryLog::new();
        disk.overwrite(bytes);
        let chain = SimulatedChain::open_memory(disk.clone(), rig.config.clone(), rig.clock.clone());
        chain.map(|chain| (chain, disk))
    };
    for cut in 1..=donation {
        let (chain, disk) = open(whole[..whole.len() - cut].to_vec()).unwrap();
        assert_eq!(disk.contents().len(), whole.len() - donation, "cut by {cut}");
        assert!(chain.totals().await.unwrap().donated.is_zero());
    }
    // Zeros where the record was to be: written in part, not synced.
    let mut zeros = whole.clone();
    let end = zeros.len();
    zeros[end - donation + 3..].fill(0);
    let (chain, disk) = open(zeros).unwrap();
    assert_eq!(disk.contents().len(), whole.len() - donation);
    // And what is appended then is read back.
    chain.set_fault(SimulatedFault::Donate { amount: amount(7) }).await.unwrap();
    assert_eq!(disk.contents().len(), whole.len());
    // A crash while the file was made: it begins anew.
    assert_eq!(open(whole[..10].to_vec()).unwrap().0.totals().await.unwrap().height, 0);
}

#[tokio::test]
async fn a_broken_record_in_the_middle_is_refused() {
    let rig = lived("atom").await;
    let whole = rig.disk.contents();
    let last = 4 + 4 + 8 + 4 + (8 + 8 + 1 + 16) + 4;
    for place in (0..whole.len() - last).step_by(11) {
        let mut broken = whole.clone();
        broken[place] ^= 0x10;
        let disk = MemoryLog::new();
        disk.overwrite(broken.clone());
        let opened = SimulatedChain::open_memory(disk.clone(), rig.config.clone(), rig.clock.clone());
        assert!(matches!(opened, Err(ChainError::Untrusted(_))), "byte {place}");
        assert_eq!(disk.contents(), broken, "nothing is cut off");
    }
}
