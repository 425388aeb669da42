#![no_main]

softstake_fuzz::target!("calls");
