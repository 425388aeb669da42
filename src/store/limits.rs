//! The limits that every engine keeps, checked before anything else.

use super::{Batch, MAX_COMMIT_BYTES, MAX_COMMIT_KEYS, MAX_KEY_BYTES, MAX_VALUE_BYTES, StoreError};

/// Refuses what no engine may store, and says which limit it breaks and by how much.
pub fn check(batches: &[Batch]) -> Result<(), StoreError> {
    let mut bytes = 0usize;
    let mut keys = 0usize;
    for batch in batches {
        let mut changed = Vec::with_capacity(batch.puts.len() + batch.deletes.len());
        for (key, value) in &batch.puts {
            if value.len() > MAX_VALUE_BYTES {
                return refuse(format!("a value has {} bytes, and at most {MAX_VALUE_BYTES} fit", value.len()));
            }
            changed.push(key);
            bytes += key.len() + value.len();
        }
        for key in &batch.deletes {
            changed.push(key);
            bytes += key.len();
        }
        if let Some(key) = changed.iter().find(|key| key.is_empty() || key.len() > MAX_KEY_BYTES) {
            return refuse(format!("a key has {} bytes; it must have 1 to {MAX_KEY_BYTES}", key.len()));
        }
        keys += changed.len();
        changed.sort_unstable();
        if changed.windows(2).any(|pair| pair[0] == pair[1]) {
            return refuse("a key is changed twice in one batch".to_owned());
        }
    }
    if bytes > MAX_COMMIT_BYTES {
        return refuse(format!("the commit has {bytes} bytes, and at most {MAX_COMMIT_BYTES} fit"));
    }
    if keys > MAX_COMMIT_KEYS {
        return refuse(format!("the commit changes {keys} keys, and at most {MAX_COMMIT_KEYS} fit"));
    }
    Ok(())
}

fn refuse(why: String) -> Result<(), StoreError> {
    Err(StoreError::Refused(why))
}
