#![no_main]

softstake_fuzz::target!("store_record");
