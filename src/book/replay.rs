//! Reading a partition's history again: the archive, and the journal that goes on from it.

use super::journal::{Assembly, Chain, Group, first_chain};
use super::{Book, BookError, archive, lock};
use crate::store::{Direction, KeyRange, MAX_COMMIT_KEYS, PartitionId, keys};

/// The values that one scan of the journal brings.
const SCAN: usize = 128;

/// How far a partition's history was read.
struct Reading {
    id: PartitionId,
    next: u64,
    /// The chain before `next`, where it is known.
    chain: Option<Chain>,
    groups: Vec<Group>,
    limit: usize,
}

impl Book {
    /// Up to `limit` groups of a partition from `from_group` on, in order and without a gap: out of the archive, then
    /// out of the journal up to what is acknowledged. 0 asks from the oldest that is kept, an older one than that is
    /// refused as [`BookError::NotKept`]. Every checksum is verified, and that each value follows the one before. Empty
    /// past the last. Reads the store: a whole archive, some 256 KiB of journal, for whatever part of it is asked for.
    pub async fn archived_events(
        &self,
        pool: u16,
        partition: u16,
        from_group: u64,
        limit: usize,
    ) -> Result<Vec<Group>, BookError> {
        let Some(pool) = self.pool(pool) else { return Ok(Vec::new()) };
        let id = pool.id(usize::from(partition));
        let head = lock(&pool.heads).list.get(usize::from(partition)).copied();
        let Some(head) = head.filter(|head| head.group > 0) else { return Ok(Vec::new()) };
        let oldest = self.oldest_kept(id).await?.unwrap_or(head.group + 1);
        if from_group > 0 && from_group < oldest {
            return Err(BookError::NotKept { partition: id.0, oldest });
        }
        let next = from_group.max(oldest);
        let chain = (next == 1).then(|| first_chain(id.0));
        let mut reading = Reading { id, next, chain, groups: Vec::new(), limit };
        let mut stuck = false;
        while reading.next <= head.group && reading.groups.len() < limit {
            let before = reading.next;
            match self.read_on(&mut reading, head.group).await {
                Err(error @ BookError::Store(_)) => return Err(error),
                Ok(()) if reading.next > before => stuck = false,
                // Trimming may have moved what was being read, or removed it; it is still there the second time.
                _ if !stuck => stuck = true,
                outcome => {
                    let oldest = self.oldest_kept(id).await?.unwrap_or(head.group + 1);
                    if reading.next < oldest {
                        return Err(BookError::NotKept { partition: id.0, oldest });
                    }
                    return Err(outcome.err().unwrap_or_else(|| reading.broken()));
                }
            }
        }
        if reading.next == head.group + 1 && reading.chain.is_some_and(|chain| chain != head.chain) {
            return Err(BookError::JournalBroken { partition: id.0, group: head.group });
        }
        Ok(reading.groups)
    }

    async fn read_on(&self, reading: &mut Reading, last: u64) -> Result<(), BookError> {
        if self.read_archive(reading).await? { Ok(()) } else { self.read_journal(reading, last).await }
    }

    async fn oldest_kept(&self, id: PartitionId) -> Result<Option<u64>, BookError> {
        // The journal first: what leaves it meanwhile is in the archive then.
        let journal = self.first_key(id, keys::tag::JOURNAL).await?;
        let archive = self.first_key(id, keys::tag::ARCHIVE).await?;
        let journal = journal.and_then(|key| keys::parse_journal(&key));
        Ok(archive.and_then(|key| keys::parse_archive(&key)).or(journal).map(|(group, _)| group))
    }

    async fn first_key(&self, id: PartitionId, tag: u8) -> Result<Option<Vec<u8>>, BookError> {
        let found = self.shared.store.scan(id, keys::range_of_tag(tag), 1, Direction::Forward).await?;
        Ok(found.into_iter().next().map(|(key, _)| key))
    }

    /// Reads on in the archive that has the next group. `false` where none has.
    async fn read_archive(&self, reading: &mut Reading) -> Result<bool, BookError> {
        let (id, store) = (reading.id, &self.shared.store);
        let damaged = BookError::Damaged { what: "an archive of the journal", partition: id.0 };
        let upto = KeyRange { from: keys::archive(0, 0), to: keys::archive_of(reading.next).to };
        let found = store.scan(id, upto, 1, Direction::Reverse).await?;
        let Some((key, _)) = found.first() else { return Ok(false) };
        let (first, _) = keys::parse_archive(key).ok_or(damaged.clone())?;
        let parts = store.scan(id, keys::archive_of(first), MAX_COMMIT_KEYS, Direction::Forward).await?;
        let run = archive::decode(parts.iter().map(|(_, value)| value.as_slice()));
        let (span, values) = run.filter(|(span, _)| span.first == first).ok_or(damaged.clone())?;
        if span.last < reading.next {
            return Ok(false);
        }
        let chain = reading.chain.filter(|_| first == reading.next);
        let mut assembly = Assembly::resume(first, chain.or((first == 1).then(|| first_chain(id.0))));
        reading.take(&mut assembly, values.iter())?;
        let whole = assembly.next_number() == span.last + 1;
        if whole || reading.groups.len() >= reading.limit { Ok(true) } else { Err(damaged) }
    }

    /// Reads on in the journal.
    async fn read_journal(&self, reading: &mut Reading, last: u64) -> Result<(), BookError> {
        let mut assembly = Assembly::resume(reading.next, reading.chain);
        let mut range = KeyRange { from: keys::journal(reading.next, 0), to: keys::journal(last.saturating_add(1), 0) };
        while reading.groups.len() < reading.limit {
            let found = self.shared.store.scan(reading.id, range.clone(), SCAN, Direction::Forward).await?;
            let (Some((first, _)), Some((key, _))) = (found.first(), found.last()) else { return Ok(()) };
            // Trimmed meanwhile: it is in the archive now.
            if keys::parse_journal(first).is_none_or(|(group, _)| group != assembly.next_number()) {
                return Ok(());
            }
            range.from = keys::after(key);
            reading.take(&mut assembly, found.iter().map(|(_, value)| value))?;
        }
        Ok(())
    }
}

impl Reading {
    fn broken(&self) -> BookError {
        BookError::JournalBroken { partition: self.id.0, group: self.next }
    }

    /// Takes the groups that are wanted out of the values that come next.
    fn take<'a>(
        &mut self,
        assembly: &mut Assembly,
        values: impl Iterator<Item = &'a Vec<u8>>,
    ) -> Result<(), BookError> {
        for value in values {
            if self.groups.len() >= self.limit {
                return Ok(());
            }
            let broken = BookError::JournalBroken { partition: self.id.0, group: assembly.next_number() };
            let Some(group) = assembly.take(value).map_err(|()| broken)? else { continue };
            if group.number >= self.next {
                (self.next, self.chain) = (group.number + 1, assembly.chain());
                self.groups.push(group);
            }
        }
        Ok(())
    }
}
