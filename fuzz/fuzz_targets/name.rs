#![no_main]

softstake_fuzz::target!("name");
