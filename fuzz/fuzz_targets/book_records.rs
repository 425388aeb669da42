#![no_main]

softstake_fuzz::target!("book_records");
