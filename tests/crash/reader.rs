//! Reads a stopped service's folder through the library, all of it, and says what it found: one line for each thing that
//! the service would tell anyone.

use std::fmt::{Debug, Display};
use std::path::Path;
use std::sync::Arc;

use softstake::app::history::HistoryQuery;
use softstake::app::{self, App, Chain, Settings};
use softstake::book::{Book, BookConfig};
use softstake::chain::simulated::{SimulatedChain, presets};
use softstake::clock::{Clock, ManualClock};
use softstake::domain::amount::BaseUnits;
use softstake::domain::period::PeriodIndex;
use softstake::store::sled::{SledOptions, SledStore};
use softstake::store::{Direction, PartitionId, Store, keys, migrations};

/// What a line says.
const FOUND: &str = "found\t";

/// What one thing came to: a hash of it, or why it could not be read.
pub type Found = Result<String, String>;

/// The lines of a reader, by what they speak of. `None` where it was cut off.
pub fn parse(output: &str) -> Option<std::collections::BTreeMap<String, Found>> {
    let mut found = std::collections::BTreeMap::new();
    let mut whole = false;
    // The first line follows the test's own name.
    for line in output.lines().filter_map(|line| line.split_once(FOUND).map(|(_, line)| line)) {
        let mut parts = line.splitn(3, '\t');
        let (what, kind, text) = (parts.next()?, parts.next()?, parts.next()?.to_owned());
        whole |= what == "end";
        found.insert(what.to_owned(), if kind == "ok" { Ok(text) } else { Err(text) });
    }
    whole.then_some(found)
}

fn say(what: &str, found: &Found) {
    let (kind, text) = match found {
        Ok(text) => ("ok", text.clone()),
        Err(text) => ("error", text.replace(['\n', '\t'], " ")),
    };
    println!("{FOUND}{what}\t{kind}\t{text}");
}

fn hash(thing: &impl Debug) -> String {
    blake3::hash(format!("{thing:?}").as_bytes()).to_hex()[..24].to_owned()
}

fn told<T: Debug, E: Display>(what: &str, read: Result<T, E>) -> Option<T> {
    say(what, &read.as_ref().map(hash).map_err(ToString::to_string));
    read.ok()
}

/// Opens everything as the service does and says what is there. Ends with a line of its own, whatever it found.
pub async fn read(data: &Path) {
    if let Err(refused) = tell(data).await {
        say("refused", &Err(refused));
    }
    say("end", &Ok(String::new()));
}

/// `Err` where the service would not start.
async fn tell(data: &Path) -> Result<(), String> {
    let text = |error: &dyn Display| error.to_string();
    let clock = Arc::new(ManualClock::open(&data.join("clock"), 0).map_err(|error| text(&error))?);
    say("clock", &Ok(clock.now_ms().to_string()));
    let options = SledOptions { cache_bytes: 64 << 20, verify: false };
    let store = Arc::new(SledStore::open(&data.join("store"), options).map_err(|error| text(&error))?);
    migrations::migrate(&*store).await.map_err(|error| text(&error))?;
    let mut chains = Vec::new();
    for (id, _) in crate::program::POOLS {
        let mut config = presets::preset(id).unwrap().with_seed(7);
        config = config.with_custody(BaseUnits::new(1_000_000_000_000_000_000_000_000_000_000_000).unwrap());
        config.unbonding_seconds = 7_200;
        config.limits.redelegation_lock_seconds = config.limits.redelegation_lock_seconds.min(7_200);
        config.epoch_seconds = 600;
        config.block_seconds = config.block_seconds.min(600);
        let path = data.join("chains").join(format!("{id}.log"));
        let chain = SimulatedChain::open(&path, config, clock.clone()).map_err(|error| text(&error))?;
        told(&format!("chain of {id}"), chain.totals().await);
        let signer = Arc::new(chain.signer());
        let descriptor = chain.config().descriptor();
        chains.push(Chain { max_fee: descriptor.fee_estimate, descriptor, adapter: Arc::new(chain), signer });
    }
    let shared: Arc<dyn Store> = store.clone();
    let records = app::pool_records(&*shared).await.map_err(|error| text(&error))?;
    let specs = records.iter().map(app::spec).collect();
    let opened = Book::open(shared.clone(), specs, BookConfig::default()).await;
    let (book, _committer) = opened.map_err(|error| text(&error))?;
    let book = Arc::new(book);
    let settings = Settings {
        claim_lead_seconds: 600,
        observe_interval_seconds: 30,
        max_attempts: 12,
        max_operation_seconds: 86_400,
        retry_base_seconds: 5,
        max_future_seconds: 60,
    };
    let sender = book.sender();
    let app = App::new(shared.clone(), clock.clone(), book.clone(), sender, chains, settings);
    app.open().await.map_err(|error| text(&error))?;

    control(&*shared, PartitionId::SERVICE).await;
    say("pools", &Ok(app.pools().iter().map(|pool| pool.id().to_string()).collect::<Vec<_>>().join(",")));
    for pool in app.pools() {
        control(&*shared, pool.control()).await;
        of_pool(&app, &book, &pool).await;
    }
    // What every backup proves on the way: no record is missing anywhere.
    told("verification", store.verify().await);
    Ok(())
}

/// Every record of a partition that holds small ones.
async fn control(store: &dyn Store, partition: PartitionId) {
    let all = store.scan(partition, keys::prefix_range(&[]), usize::MAX, Direction::Forward).await;
    told(&format!("records of partition {}", partition.0), all);
}

async fn of_pool(app: &App, book: &Book, pool: &app::Pool) {
    let (id, number) = (pool.id(), pool.number());
    say(&format!("state of {id}"), &Ok(format!("{:?}", book.state_hash(number))));
    // Not when: an equation holds or does not at any time.
    let audited = app.audit(pool, app.now()).await.map(|audited| audited.equations.clone());
    told(&format!("equations of {id}"), audited);
    let all = app.list::<app::records::DistributionRecord>(
        pool.control(),
        keys::range_of_tag(keys::tag::DISTRIBUTION),
        usize::MAX,
    );
    let mut periods = Vec::new();
    for record in told(&format!("distributions of {id}"), all.await).unwrap_or_default() {
        let name = format!("{id} {} {}", record.period, record.revision);
        if record.state.is_released() {
            let payouts = app.payouts_from(pool, record.period, record.revision, 0, usize::MAX).await;
            told(&format!("payouts {name}"), payouts);
            periods.push(record.period);
        }
        told(&format!("frozen {name}"), book.frozen(number, record.period).await);
        told(&format!("curve {name}"), book.frozen_curve(number, record.period).await);
    }
    for partition in 0..book.partitions(number).unwrap_or(0) {
        told(&format!("archive {id} {partition}"), book.archived_events(number, partition, 0, usize::MAX).await);
        for account in book.accounts_from(number, partition, 0, usize::MAX) {
            let query =
                HistoryQuery { asset: Some(pool.record.asset.clone()), limit: 10_000, ..HistoryQuery::default() };
            told(&format!("history {id} {account}"), app.account_payouts(&account, &query).await);
            told(&format!("earnings {id} {account}"), app.account_earnings(&account, query.asset.as_ref()).await);
            for period in periods.iter().step_by(3) {
                explain(app, pool, *period, &account).await;
            }
        }
    }
}

async fn explain(app: &App, pool: &app::Pool, period: PeriodIndex, account: &softstake::domain::ids::AccountId) {
    told(&format!("explanation {} {period} {account}", pool.id()), app.explain_payout(pool, period, account).await);
}
