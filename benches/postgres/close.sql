-- The close of the period from {start} to {end}, all of it in one transaction, on one snapshot of the positions: that is the
-- freeze, and events of the next period may go on. Floors lose less than one base unit an account.
BEGIN ISOLATION LEVEL REPEATABLE READ;
-- In a table of its own, because what reads for CREATE TABLE AS runs in parallel, and for INSERT it does not.
CREATE TEMPORARY TABLE total ON COMMIT DROP AS
    SELECT sum(CASE
        WHEN counted_to < {start} THEN eligible * ({end} - {start})
        ELSE weight + eligible * ({end} - counted_to)
    END) AS weight FROM positions;
INSERT INTO distributions SELECT {distribution}, {end}, {net}, weight FROM total;
CREATE TABLE payouts_{distribution} (LIKE payouts, CHECK (distribution = {distribution}));
INSERT INTO payouts_{distribution}
    SELECT {distribution}, account, weighed.weight, div({net} * weighed.weight, (SELECT weight FROM total))
    FROM (
        SELECT account, CASE
            WHEN counted_to < {start} THEN eligible * ({end} - {start})
            ELSE weight + eligible * ({end} - counted_to)
        END AS weight FROM positions
    ) AS weighed;
CREATE INDEX ON payouts_{distribution} (account);
ALTER TABLE payouts ATTACH PARTITION payouts_{distribution} FOR VALUES IN ({distribution});
COMMIT;
