-- What the ledger has told: the last event of each source that is in the positions.
CREATE TABLE sources (
    source text COLLATE "C" PRIMARY KEY,
    sequence bigint NOT NULL
) WITH (fillfactor = 50);

-- One row an account. `weight` is the integral of `eligible` from the start of the period that `counted_to` lies in up to
-- `counted_to`, in base units x seconds. Of a later period nothing is counted yet, so no period's end has to reset a row.
-- Columns of one width first: no padding. No index but the key, and room in every page: updates stay within their page.
CREATE TABLE positions (
    counted_to bigint NOT NULL,
    account text COLLATE "C" NOT NULL,
    balance numeric NOT NULL,
    eligible numeric NOT NULL,
    weight numeric NOT NULL
) WITH (fillfactor = 70);

-- What was divided, and among what. The next period starts where the newest one ends.
CREATE TABLE distributions (
    distribution integer PRIMARY KEY,
    period_end bigint NOT NULL,
    net numeric NOT NULL,
    weight numeric NOT NULL
);

-- A partition for each distribution: filled and indexed while nobody else sees it, and read through the account's index.
CREATE TABLE payouts (
    distribution integer NOT NULL,
    account text COLLATE "C" NOT NULL,
    weight numeric NOT NULL,
    amount numeric NOT NULL
) PARTITION BY LIST (distribution);
CREATE INDEX payouts_account ON payouts (account);
