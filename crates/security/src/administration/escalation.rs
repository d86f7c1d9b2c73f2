//! Nobody can give away what he does not have.

use crate::permission::Permission;
use crate::policy::Policy;
use crate::principal::Principal;
use crate::whitelist::Whitelist;

/// Whether a key with these permissions on these pipelines can do nothing that `caller` cannot do.
///
/// Today only unrestricted administrators get as far as asking, and they pass. The rule stands here so that a right to
/// make keys that is less than that can never make greater ones.
pub(super) fn covers(
    policy: &Policy,
    caller: &Principal,
    permissions: impl Iterator<Item = Permission>,
    pipelines: &Whitelist,
) -> bool {
    let own = policy.permissions_of(caller);
    let mut permissions = permissions;
    permissions.all(|permission| own.grants(permission)) && caller.whitelist().covers(pipelines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_key::{KeyDigest, KeyRecord, KeyRing};
    use crate::permission::Permission::{Admin, Execute, Read};

    fn caller(permissions: &[Permission], pipelines: &[&str]) -> std::sync::Arc<Principal> {
        let record = KeyRecord {
            whitelist: Whitelist::parse(pipelines).unwrap(),
            permissions: permissions.iter().copied().collect(),
            ..KeyRecord::new(KeyDigest::of("k"), "k", vec!["r".to_owned()])
        };
        KeyRing::new([record]).unwrap().find("k", [127, 0, 0, 1].into(), jiff::Timestamp::now()).unwrap()
    }

    #[test]
    fn no_key_can_do_more_than_its_maker() {
        for (own, on, wanted, of, expected) in [
            (&[Admin][..], &["*"][..], &[Read, Execute, Admin][..], &["*"][..], true),
            (&[Read, Execute], &["*"], &[Read, Execute], &["*"], true),
            (&[Read, Execute], &["*"], &[Admin], &["a"], false),
            (&[Read], &["*"], &[Execute], &["a"], false),
            (&[Admin], &["a"], &[Read], &["a"], true),
            (&[Admin], &["a"], &[Read], &["*"], false),
            (&[Admin], &["a"], &[Read], &[], false),
            (&[Admin], &["a"], &[Read], &["a", "b"], false),
            (&[Admin], &["audio_*"], &[Read], &["audio_in", "audio_o*"], true),
            (&[Admin], &["audio_*"], &[Read], &["a*"], false),
            (&[], &["*"], &[], &["*"], true),
        ] {
            let found = covers(
                &Policy::default(),
                &caller(own, on),
                wanted.iter().copied(),
                &Whitelist::parse(of).unwrap(),
            );
            assert_eq!(found, expected, "{own:?} on {on:?} for {wanted:?} on {of:?}");
        }
    }
}
