//! Who runs a command on this machine, as well as the machine knows it: for the audit log of a store that no service has
//! open, where nobody shows credentials.

use std::io;
use std::path::Path;

use tokio::net::UnixStream;

use crate::domain::caller::Caller;

/// The user whom this process runs as, and on which machine; where sudo says so, who became that user. Call it within a
/// runtime.
pub(super) fn user() -> io::Result<Caller> {
    // The kernel says it of a socket's other end, and this one is our own.
    let uid = UnixStream::pair()?.0.peer_cred()?.uid();
    let name = std::fs::read_to_string("/etc/passwd").ok().and_then(|users| named(&users, uid)).unwrap_or_default();
    let machine = ["/proc/sys/kernel/hostname", "/etc/hostname"].map(Path::new);
    let machine = machine.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let before = std::env::var("SUDO_USER").map(|user| format!(",sudo_user={user}")).unwrap_or_default();
    let peer = format!("uid={uid}{before}@{}", machine.trim());
    let peer: String = peer.chars().filter(char::is_ascii_graphic).take(200).collect();
    Ok(Caller::host(if name.is_empty() { uid.to_string() } else { name }.as_str(), uid, &peer))
}

/// The name of a user, by the lines of a file of users.
fn named(users: &str, uid: u32) -> Option<String> {
    let mut users = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let uid = uid.to_string();
    users.find(|fields| fields.get(2) == Some(&uid.as_str())).and_then(|fields| Some((*fields.first()?).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_by_the_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nmaria:x:1000:1000::/home/maria:/bin/sh\n\nhalf:x\n";
        assert_eq!(named(users, 1_000).as_deref(), Some("maria"));
        assert_eq!(named(users, 7), None);
    }

    #[tokio::test]
    async fn whoever_runs_this_has_a_name_and_a_machine() {
        let user = user().unwrap();
        assert!(user.principal.as_str().len() > "host:".len() && user.peer.starts_with("uid="), "{user:?}");
    }
}
