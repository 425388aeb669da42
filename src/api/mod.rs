//! gRPC: parse, authorise, call the service, answer. A file per service; `status.rs` alone makes a `tonic::Status`.

pub mod parse;
pub mod status;
