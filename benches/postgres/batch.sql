-- A batch that was copied to `batch`, one row an account: the events ($2, $3] of source $1 in the period that starts at $4.
-- Where $2 is not the last event of the source, it is a repeat (or leaves a gap), and changes nothing.
WITH moved AS (
    UPDATE sources SET sequence = $3 WHERE source = $1 AND sequence = $2 RETURNING source
)
MERGE INTO positions AS p
USING (SELECT batch.at, batch.account, batch.balance FROM batch, moved) AS b
ON p.account = b.account
WHEN MATCHED THEN UPDATE SET
    counted_to = b.at,
    balance = b.balance,
    eligible = b.balance,
    weight = CASE
        WHEN p.counted_to < $4 THEN p.eligible * (b.at - $4)
        ELSE p.weight + p.eligible * (b.at - p.counted_to)
    END
WHEN NOT MATCHED THEN INSERT (counted_to, account, balance, eligible, weight)
    VALUES (b.at, b.account, b.balance, b.balance, 0)
