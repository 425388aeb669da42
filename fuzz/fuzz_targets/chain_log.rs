#![no_main]

softstake_fuzz::target!("chain_log");
