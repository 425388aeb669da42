//! Version 1: the first. An empty store becomes a store of softstake.

use async_trait::async_trait;

use super::{Migration, MigrationError, failed};
use crate::store::{Batch, Direction, PartitionId, Store, keys};

pub(super) struct Initial;

#[async_trait]
impl Migration for Initial {
    fn number(&self) -> u32 {
        1
    }

    fn name(&self) -> &'static str {
        "initial"
    }

    async fn run(&self, store: &dyn Store) -> Result<Batch, MigrationError> {
        let everything = keys::prefix_range(&[]);
        let some = store.scan(PartitionId::SERVICE, everything, 1, Direction::Forward).await.map_err(failed(1))?;
        // Another may have done this step in the meantime; the version that it left says so.
        if some.is_empty() || some[0].0 == keys::store_version() {
            Ok(Batch::new(PartitionId::SERVICE))
        } else {
            Err(MigrationError::Foreign)
        }
    }
}
