//! Generated code: the messages, clients and servers of every .proto below `proto/`, and their descriptors.

// Written by build.rs and described by the comments of the .proto files.
#[allow(missing_docs, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}

pub use generated::softstake;
pub use generated::softstake::v1;

/// The simulation's service and messages.
pub mod sim {
    pub use super::generated::softstake::sim::v1;
}

/// The stored forms of small records.
pub mod store {
    pub use super::generated::softstake::store::v1;
}

/// Every file below `proto/`, and every file that they import, as an encoded `FileDescriptorSet` with comments.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/softstake.bin"));

/// google.rpc.Status and the error details, as an encoded `FileDescriptorSet`, for reflection: clients need it to show
/// what an error carries.
pub const ERROR_DESCRIPTOR_SET: &[u8] = tonic_types::pb::FILE_DESCRIPTOR_SET;
