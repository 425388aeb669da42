#![no_main]

softstake_fuzz::target!("pem");
