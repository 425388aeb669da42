//! One connection that brings the events of one source, batch after batch, each in a transaction of its own.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use futures::SinkExt;
use tokio_postgres::{Client, Statement};

use super::PostgresError;
use super::numeric::Numeric;
use crate::cli::bench::feed::{Fed, source};
use crate::cli::bench::load::{Load, Share, Update};

const COPY: &str = "COPY batch FROM STDIN (FORMAT binary)";
const COPY_OPENINGS: &str = "COPY positions FROM STDIN (FORMAT binary)";

/// What a binary copy starts with: its signature, no flags, no more header.
const COPY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// How many opening balances are made ready at a time.
const CHUNK: u64 = 8_192;

/// Bytes of a row at most, for the buffer.
const ROW_BYTES: usize = 96;

pub(super) struct Lane {
    client: Client,
    merge: Statement,
    copy: Statement,
    load: Load,
    share: Share,
    source: String,
    /// The last event that is in the positions.
    sequence: i64,
    next_batch: u64,
    /// What each account of the share holds, to know what the weights have to come to.
    balances: Vec<u64>,
    held: u128,
    /// The integral of `held` from the start of the period to `counted_to`.
    weight: u128,
    counted_to: i64,
}

/// The last change of each account, in the order of the key: of changes as of one moment it is what remains, an update meets
/// a row once, and rows that are neighbours in the index come one after the other.
fn last_of_each(updates: &[Update]) -> Vec<Update> {
    let mut rows = updates.to_vec();
    rows.reverse();
    rows.sort_by_key(|update| update.account);
    rows.dedup_by_key(|update| update.account);
    rows
}

fn put_bigint(out: &mut BytesMut, value: i64) {
    out.put_i32(8);
    out.put_i64(value);
}

fn put_numeric(out: &mut BytesMut, value: u128) {
    let at = out.len();
    out.put_i32(0);
    Numeric(value).put(out);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// The time, the account and the balance of each row; for `positions` also what is eligible, and a weight of zero.
fn put_rows(out: &mut BytesMut, rows: &[Update], at_seconds: i64, opening: bool) {
    for row in rows {
        out.put_i16(if opening { 5 } else { 3 });
        put_bigint(out, at_seconds);
        let account = Load::account(row.account);
        out.put_i32(account.len() as i32);
        out.put_slice(account.as_bytes());
        put_numeric(out, row.base_units.into());
        if opening {
            put_numeric(out, row.base_units.into());
            put_numeric(out, 0);
        }
    }
}

impl Lane {
    /// The lane of a share, on a connection of its own. The schema is there.
    pub(super) async fn open(client: Client, load: Load, share: Share) -> Result<Self, PostgresError> {
        client.batch_execute(super::SESSION).await?;
        let (merge, copy) = (client.prepare(super::BATCH).await?, client.prepare(COPY).await?);
        let source = source(share.place);
        client.execute("INSERT INTO sources VALUES ($1, 0)", &[&source]).await?;
        Ok(Self {
            client,
            merge,
            copy,
            load,
            share,
            source,
            sequence: 0,
            next_batch: 0,
            balances: Vec::new(),
            held: 0,
            weight: 0,
            counted_to: 0,
        })
    }

    /// Copies the opening balances of the share into `positions`.
    pub(super) async fn openings(&mut self, at_seconds: i64) -> Result<u64, PostgresError> {
        let size = self.share.size(self.load.positions);
        let copy = self.client.prepare(COPY_OPENINGS).await?;
        let sink = self.client.copy_in::<_, Bytes>(&copy).await?;
        futures::pin_mut!(sink);
        let mut head = Some(COPY_HEAD);
        for from in (0..size).step_by(CHUNK as usize) {
            let rows = self.load.openings(self.share, from, (from + CHUNK).min(size));
            let mut bytes = BytesMut::with_capacity(rows.len() * ROW_BYTES);
            bytes.put_slice(head.take().unwrap_or_default());
            put_rows(&mut bytes, &rows, at_seconds, true);
            self.balances.extend(rows.iter().map(|row| row.base_units));
            sink.feed(bytes.freeze()).await?;
        }
        let copied = sink.finish().await?;
        self.held = self.balances.iter().copied().map(u128::from).sum();
        (self.weight, self.counted_to) = (0, at_seconds);
        Ok(copied)
    }

    /// Sends random changes, one batch after the other, until `until` after `started`.
    pub(super) async fn run(
        &mut self,
        batch: usize,
        at_seconds: i64,
        period_start: i64,
        started: Instant,
        until: Duration,
    ) -> Result<Fed, PostgresError> {
        let mut fed = Fed::default();
        let mut updates = Vec::new();
        while started.elapsed() < until {
            self.next_batch += 1;
            updates = self.load.updates(self.share, self.next_batch, batch);
            let begun = Instant::now();
            let last = self.sequence + updates.len() as i64;
            let rows = last_of_each(&updates);
            let changed = self.send(&rows, self.sequence, last, at_seconds, period_start).await?;
            if changed != rows.len() as u64 {
                let wrong = format!("{}: {changed} of the {} rows of a batch were changed", self.source, rows.len());
                return Err(PostgresError::Wrong(wrong));
            }
            self.sequence = last;
            fed.latencies.push(begun.elapsed());
            fed.events += updates.len() as u64;
            fed.acked.push((started.elapsed(), updates.len() as u64));
            self.count(&rows, at_seconds);
        }
        fed.took = started.elapsed();
        // What is told twice must be in the positions once.
        let first = self.sequence - updates.len() as i64;
        match self.send(&last_of_each(&updates), first, self.sequence, at_seconds, period_start).await? {
            0 => Ok(fed),
            changed => Err(PostgresError::Wrong(format!("{}: a repeat changed {changed} rows", self.source))),
        }
    }

    /// Brings the events after `from` up to `to`; how many positions that has changed or made.
    async fn send(
        &mut self,
        rows: &[Update],
        from: i64,
        to: i64,
        at_seconds: i64,
        period_start: i64,
    ) -> Result<u64, PostgresError> {
        let mut bytes = BytesMut::with_capacity(COPY_HEAD.len() + rows.len() * ROW_BYTES);
        bytes.put_slice(COPY_HEAD);
        put_rows(&mut bytes, rows, at_seconds, false);
        let transaction = self.client.transaction().await?;
        let sink = transaction.copy_in(&self.copy).await?;
        futures::pin_mut!(sink);
        sink.feed(bytes.freeze()).await?;
        sink.finish().await?;
        let changed = transaction.execute(&self.merge, &[&self.source, &from, &to, &period_start]).await?;
        transaction.commit().await?;
        Ok(changed)
    }

    /// Takes note of what a batch has changed.
    fn count(&mut self, rows: &[Update], at_seconds: i64) {
        self.weigh(at_seconds);
        for row in rows {
            let balance = &mut self.balances[(row.account / self.share.of) as usize];
            self.held = self.held - u128::from(*balance) + u128::from(row.base_units);
            *balance = row.base_units;
        }
    }

    fn weigh(&mut self, to_seconds: i64) {
        let seconds = u64::try_from(to_seconds - self.counted_to).unwrap_or(0);
        self.weight += self.held * u128::from(seconds);
        self.counted_to = to_seconds;
    }

    /// What the weights of the share have to come to at the end of the period. The next period starts.
    pub(super) fn end_period(&mut self, end_seconds: i64) -> u128 {
        self.weigh(end_seconds);
        std::mem::take(&mut self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_changes_of_an_account_the_later_one_is_brought() {
        let update = |account, base_units| Update { account, base_units };
        let rows = last_of_each(&[update(5, 1), update(2, 2), update(5, 3), update(1, 4), update(5, 0)]);
        assert_eq!(rows, [update(1, 4), update(2, 2), update(5, 0)]);
    }

    #[test]
    fn a_row_is_as_long_as_it_says() {
        let mut out = BytesMut::new();
        put_rows(&mut out, &[Update { account: 42, base_units: 10_001 }], 7, false);
        let columns: [&[u8]; 4] = [
            &[0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7],
            &[0, 0, 0, 14],
            b"acct-000000042",
            &[0, 0, 0, 12, 0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1],
        ];
        assert_eq!(out[..], columns.concat()[..]);
    }
}
