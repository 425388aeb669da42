//! Generated code: the messages, clients and servers of every .proto below `proto/`, and their descriptors.

// Written by build.rs and described by the comments of the .proto files.
#[allow(missing_docs, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}

pub use generated::softstake::v1;
pub use generated::{cosmos, softstake, tendermint};

/// The simulation's service and messages.
pub mod sim {
    pub use super::generated::softstake::sim::v1;
}

/// The stored forms of small records.
pub mod store {
    pub use super::generated::softstake::store::v1;
}

/// What both a signer and an adapter are told of a transaction.
pub mod chain {
    pub use super::generated::softstake::chain::v1;
}

/// The service of whoever holds the keys, and its messages.
pub mod signer {
    pub use super::generated::softstake::signer::v1;
}

/// The service of an adapter outside, and its messages.
pub mod adapter {
    pub use super::generated::softstake::adapter::v1;
}

/// Every file of what the service serves or keeps, and every file that they import, as an encoded `FileDescriptorSet` with
/// comments.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/served.bin"));

/// The same of every file below `proto/`.
#[cfg(test)]
const ALL_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/all.bin"));

/// google.rpc.Status and the error details, as an encoded `FileDescriptorSet`, for reflection: clients need it to show
/// what an error carries.
pub const ERROR_DESCRIPTOR_SET: &[u8] = tonic_types::pb::FILE_DESCRIPTOR_SET;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

    use super::*;

    fn our_files() -> Vec<FileDescriptorProto> {
        let set = FileDescriptorSet::decode(ALL_DESCRIPTOR_SET).unwrap();
        set.file.into_iter().filter(|file| file.package().starts_with("softstake.")).collect()
    }

    fn full_name(file: &FileDescriptorProto, name: &str) -> String {
        format!(".{}.{name}", file.package())
    }

    #[test]
    fn every_call_has_a_request_and_a_response_of_its_own() {
        let mut seen = BTreeSet::new();
        for file in our_files() {
            for service in &file.service {
                assert!(service.name().ends_with("Service"));
                for method in &service.method {
                    let request = full_name(&file, &format!("{}Request", method.name()));
                    let response = full_name(&file, &format!("{}Response", method.name()));
                    assert_eq!((method.input_type(), method.output_type()), (request.as_str(), response.as_str()));
                    assert!(seen.insert(request) && seen.insert(response), "{}", method.name());
                }
            }
        }
        assert_eq!(seen.len(), 2 * (5 + 3 + 2 + 6 + 9 + 24 + 6) + 2 * (2 + 7));
    }

    #[test]
    fn every_change_carries_a_request_id() {
        let reads = ["Get", "List", "Watch", "Stream", "Explain", "Plan", "Reconcile"];
        for file in our_files().iter().filter(|file| file.package() == "softstake.v1") {
            for method in file.service.iter().flat_map(|service| &service.method) {
                let request = format!("{}Request", method.name());
                let message = file.message_type.iter().find(|message| message.name() == request).unwrap();
                let has_id = message.field.iter().any(|field| field.name() == "request_id" && field.number() == 1);
                let reads = reads.iter().any(|verb| method.name().starts_with(verb));
                assert_eq!(has_id, !reads, "{}", method.name());
            }
        }
    }

    #[test]
    fn every_field_has_a_comment_that_begins_with_its_behaviour() {
        let mut fields = 0;
        for file in our_files().iter().filter(|file| file.package() != "softstake.store.v1") {
            let comments = file.source_code_info.as_ref().unwrap();
            let comment = |path: &[i32]| {
                let found = comments.location.iter().find(|location| location.path == path);
                found.map_or(String::new(), |location| location.leading_comments().trim().to_owned())
            };
            for (at, message) in (0..).zip(&file.message_type) {
                assert!(!comment(&[4, at]).is_empty(), "{}", message.name());
                assert!(message.nested_type.is_empty() && message.enum_type.is_empty(), "{}", message.name());
                for (place, field) in (0..).zip(&message.field) {
                    let text = comment(&[4, at, 2, place]);
                    let behaviour = ["Required. ", "Optional. ", "Output only. ", "Immutable. "];
                    let known = behaviour.iter().any(|behaviour| text.starts_with(behaviour));
                    assert!(known && text.ends_with('.'), "{}.{}: {text}", message.name(), field.name());
                    fields += 1;
                }
            }
        }
        assert!(fields > 500, "{fields}");
    }

    #[test]
    fn every_enum_begins_with_unspecified_and_repeats_its_name() {
        fn prefix(name: &str) -> String {
            let mut prefix = String::new();
            for (at, letter) in name.char_indices() {
                if at > 0 && letter.is_ascii_uppercase() {
                    prefix.push('_');
                }
                prefix.push(letter.to_ascii_uppercase());
            }
            prefix
        }
        for one in our_files().iter().flat_map(|file: &FileDescriptorProto| &file.enum_type) {
            let one: &EnumDescriptorProto = one;
            let prefix = prefix(one.name());
            assert_eq!(one.value[0].name(), format!("{prefix}_UNSPECIFIED"));
            assert!(one.value.iter().all(|value| value.name().starts_with(&format!("{prefix}_"))), "{prefix}");
        }
    }

    #[test]
    fn the_sets_hold_everything_that_reflection_needs() {
        let ours = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let errors = FileDescriptorSet::decode(ERROR_DESCRIPTOR_SET).unwrap();
        let files: Vec<_> = ours.file.iter().chain(&errors.file).collect();
        let names: BTreeSet<_> = files.iter().map(|file| file.name()).collect();
        let imports: BTreeSet<_> = files.iter().flat_map(|file| &file.dependency).map(String::as_str).collect();
        let missing: Vec<_> = imports.difference(&names).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let has = |name: &str| {
            let in_file = |message: &DescriptorProto| message.name() == name;
            errors.file.iter().any(|file| file.message_type.iter().any(in_file))
        };
        assert!(has("ErrorInfo") && has("BadRequest") && has("Status"));
    }
}
