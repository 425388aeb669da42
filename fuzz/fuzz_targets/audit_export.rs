#![no_main]

softstake_fuzz::target!("audit_export");
