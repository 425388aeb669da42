-- A connection that brings batches. A batch reads positions by their key and never all of them, whatever is estimated.
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET plan_cache_mode = force_generic_plan;
CREATE TEMPORARY TABLE batch (
    at bigint NOT NULL,
    account text COLLATE "C" NOT NULL,
    balance numeric NOT NULL
) ON COMMIT DELETE ROWS;
