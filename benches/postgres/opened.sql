-- After the opening balances: the key is built once, and what the planner and the visibility map need is there.
ALTER TABLE positions ADD PRIMARY KEY (account);
VACUUM (ANALYZE) positions;
CHECKPOINT;
