use super::*;
use crate::api_key::{KeyDigest, KeyRecord, KeyRing};
use crate::principal::Proof;
use crate::whitelist::Whitelist;
use Permission::{Admin, Execute, Read};

fn key(role: &str, pipelines: &[&str], permissions: &[Permission]) -> Arc<Principal> {
    let record = KeyRecord {
        whitelist: Whitelist::parse(pipelines).unwrap(),
        permissions: permissions.iter().copied().collect(),
        ..KeyRecord::new(KeyDigest::of("k"), "k", vec![role.to_owned()])
    };
    KeyRing::new([record]).unwrap().find("k", [127, 0, 0, 1].into(), Timestamp::now()).unwrap()
}

fn token(roles: &[&str]) -> Arc<Principal> {
    Arc::new(Principal {
        id: "ada".to_owned(),
        kind: PrincipalKind::Jwt,
        issuer: None,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        whitelist: Whitelist::Unrestricted,
        permissions: PermissionSet::EMPTY,
        expires_at: None,
        proof: Proof::Key(KeyDigest::of("s")),
    })
}

fn acl(lists: &[(Permission, &[&str])]) -> Acl {
    Acl::new(
        lists
            .iter()
            .map(|(permission, roles)| (*permission, roles.iter().map(|r| (*r).to_owned()).collect())),
    )
}

/// `guarded`: read for admin and viewer, execute for operator; `owned`: admin for owner; `closed`: an empty ACL.
/// Roles of tokens: admin everything, reader read, runner execute.
fn policy() -> Policy {
    Policy::new(
        BTreeMap::from([
            ("guarded".to_owned(), acl(&[(Read, &["admin", "viewer"]), (Execute, &["operator"])])),
            ("owned".to_owned(), acl(&[(Admin, &["owner"])])),
            ("closed".to_owned(), acl(&[])),
        ]),
        BTreeMap::from([
            ("admin".to_owned(), PermissionSet::ALL),
            ("reader".to_owned(), PermissionSet::from_iter([Read])),
            ("runner".to_owned(), PermissionSet::from_iter([Execute])),
        ]),
    )
    .with_anonymous_read(true)
}

fn verdict(principal: &Arc<Principal>, permission: Permission, resource: Resource<'_>) -> (bool, Rule) {
    let policy = policy();
    let verdict = policy.decide(principal, permission, resource, Timestamp::now());
    assert_eq!(policy.authorize(principal, permission, resource).is_ok(), verdict.allowed);
    (verdict.allowed, verdict.rule)
}

#[test]
fn every_rule_on_a_pipeline() {
    let all = &[Read, Execute, Admin][..];
    for (who, principal, permission, pipeline, expected) in [
        // 1: whitelist
        ("listed", key("viewer", &["a", "b"], &[Read]), Read, "a", (true, Rule::Permission)),
        ("not listed", key("viewer", &["a", "b"], &[Read]), Read, "c", (false, Rule::Whitelist)),
        ("glob", key("viewer", &["audio_*"], &[Read]), Read, "audio_in", (true, Rule::Permission)),
        ("glob, other", key("viewer", &["audio_*"], &[Read]), Read, "video_in", (false, Rule::Whitelist)),
        ("empty list", key("viewer", &[], &[Read]), Read, "c", (true, Rule::Permission)),
        ("star", key("viewer", &["*"], &[Read]), Read, "c", (true, Rule::Permission)),
        ("admin does not pass it", key("admin", &["a"], all), Read, "c", (false, Rule::Whitelist)),
        // 2: permission
        ("read is not execute", key("viewer", &[], &[Read]), Execute, "a", (false, Rule::Permission)),
        ("execute is not read", key("viewer", &[], &[Execute]), Read, "a", (false, Rule::Permission)),
        ("no permission", key("admin", &[], &[]), Read, "a", (false, Rule::Permission)),
        ("admin implies", key("x", &[], &[Admin]), Execute, "a", (true, Rule::Admin)),
        (
            "read and execute are not admin",
            key("x", &[], &[Read, Execute]),
            Admin,
            "a",
            (false, Rule::Permission),
        ),
        ("token by role", token(&["reader"]), Read, "a", (true, Rule::Permission)),
        ("token, one of its roles", token(&["x", "runner"]), Execute, "a", (true, Rule::Permission)),
        ("token, role without it", token(&["reader"]), Execute, "a", (false, Rule::Permission)),
        ("token, unknown role", token(&["x"]), Read, "a", (false, Rule::Permission)),
        ("token without roles", token(&[]), Read, "a", (false, Rule::Permission)),
        ("token, admin role", token(&["admin"]), Execute, "a", (true, Rule::Admin)),
        // 3: ACL
        ("key's role listed", key("viewer", &[], &[Read]), Read, "guarded", (true, Rule::Acl)),
        ("key's role not listed", key("guest", &[], &[Read]), Read, "guarded", (false, Rule::Acl)),
        (
            "listed for another permission",
            key("viewer", &[], &[Read, Execute]),
            Execute,
            "guarded",
            (false, Rule::Acl),
        ),
        (
            "an ACL gives a key nothing",
            key("operator", &[], &[Read]),
            Execute,
            "guarded",
            (false, Rule::Permission),
        ),
        (
            "the ACL does not open the whitelist",
            key("viewer", &["a"], &[Read]),
            Read,
            "guarded",
            (false, Rule::Whitelist),
        ),
        (
            "a role named admin is no permission",
            key("admin", &[], &[Execute]),
            Execute,
            "guarded",
            (false, Rule::Acl),
        ),
        ("admin passes ACLs", key("x", &[], &[Admin]), Execute, "guarded", (true, Rule::Admin)),
        ("an empty ACL closes", key("viewer", &[], &[Read]), Read, "closed", (false, Rule::Acl)),
        ("an ACL gives a token", token(&["viewer"]), Read, "guarded", (true, Rule::Acl)),
        ("an ACL takes from a token", token(&["reader"]), Read, "guarded", (false, Rule::Acl)),
        ("an ACL gives no more than it lists", token(&["viewer"]), Execute, "guarded", (false, Rule::Acl)),
        ("admin in an ACL implies", token(&["owner"]), Read, "owned", (true, Rule::Acl)),
        ("admin in an ACL is admin there", token(&["owner"]), Admin, "owned", (true, Rule::Acl)),
        ("and only there", token(&["owner"]), Read, "a", (false, Rule::Permission)),
        ("roles are compared exactly", token(&["Viewer"]), Read, "guarded", (false, Rule::Acl)),
        // nobody
        ("anonymous, no ACL", Principal::anonymous(), Read, "a", (true, Rule::Anonymous)),
        ("anonymous, ACL", Principal::anonymous(), Read, "guarded", (false, Rule::Anonymous)),
        ("anonymous, execute", Principal::anonymous(), Execute, "a", (false, Rule::Anonymous)),
        ("left open", Principal::open(), Read, "a", (false, Rule::Anonymous)),
    ] {
        let resource = Resource::Pipeline(pipeline);
        assert_eq!(verdict(&principal, permission, resource), expected, "{who}: {permission} on {pipeline}");
        if permission == Read {
            assert_eq!(policy().may_read(&principal, pipeline), expected.0, "{who}");
        }
    }
}

#[test]
fn what_is_not_one_pipeline() {
    let admin = key("admin", &["*"], &[Admin]);
    let limited_admin = key("admin", &["a"], &[Read, Execute, Admin]);
    let reader = key("viewer", &[], &[Read]);
    let limited = key("viewer", &["a"], &[Read]);
    let runner = key("x", &[], &[Execute]);
    let anonymous = Principal::anonymous();
    for (principal, resource, permission, expected) in [
        (&admin, Resource::SecurityAdmin, Admin, true),
        (&limited_admin, Resource::SecurityAdmin, Admin, false),
        (&reader, Resource::SecurityAdmin, Admin, false),
        // the weaker permission asked for does not weaken the resource
        (&reader, Resource::SecurityAdmin, Read, false),
        (&token(&["admin"]), Resource::SecurityAdmin, Admin, true),
        (&token(&["owner"]), Resource::SecurityAdmin, Admin, false),
        (&anonymous, Resource::SecurityAdmin, Admin, false),
        (&Principal::open(), Resource::SecurityAdmin, Admin, false),
        (&Principal::open(), Resource::AnyPipeline, Read, false),
        (&reader, Resource::WholeServer, Read, true),
        (&limited, Resource::WholeServer, Read, false),
        (&limited_admin, Resource::WholeServer, Read, false),
        (&runner, Resource::WholeServer, Read, false),
        (&anonymous, Resource::WholeServer, Read, false),
        (&reader, Resource::AnyPipeline, Read, true),
        (&limited, Resource::AnyPipeline, Read, true),
        (&runner, Resource::AnyPipeline, Read, false),
        (&reader, Resource::AnyPipeline, Execute, false),
        (&token(&["viewer"]), Resource::AnyPipeline, Read, true),
        (&token(&["viewer"]), Resource::AnyPipeline, Execute, false),
        (&token(&["x"]), Resource::AnyPipeline, Read, false),
        (&anonymous, Resource::AnyPipeline, Read, true),
        (&anonymous, Resource::AnyPipeline, Execute, false),
        (&key("x", &["a"], &[]), Resource::Myself, Read, true),
        (&token(&[]), Resource::Myself, Read, true),
        (&anonymous, Resource::Myself, Read, false),
    ] {
        assert_eq!(
            verdict(principal, permission, resource).0,
            expected,
            "{principal:?} {permission} {resource:?}"
        );
    }
}

#[test]
fn an_expired_principal_is_refused_whatever_it_had() {
    let mut principal = (*key("admin", &[], &[Admin])).clone();
    principal.expires_at = Some(Timestamp::now() - jiff::SignedDuration::from_secs(1));
    let principal = Arc::new(principal);
    for resource in
        [Resource::Pipeline("a"), Resource::AnyPipeline, Resource::SecurityAdmin, Resource::Myself]
    {
        assert_eq!(verdict(&principal, Read, resource), (false, Rule::Expired));
    }
}

#[test]
fn a_permit_says_what_was_granted() {
    let reader = key("viewer", &["a"], &[Read]);
    let permit = policy().authorize(&reader, Read, Resource::Pipeline("a")).unwrap();
    assert_eq!((permit.permission(), permit.pipeline()), (Read, Some("a")));
    assert_eq!(permit.principal().id(), "k");
    assert_eq!(permit.resource(), Resource::Pipeline("a"));
    let permit = policy().authorize(&reader, Read, Resource::AnyPipeline).unwrap();
    assert_eq!((permit.resource(), permit.pipeline()), (Resource::AnyPipeline, None));
}

#[test]
fn callers_without_credential_may_do_nothing_unless_it_is_said() {
    let nobody = Principal::anonymous();
    for resource in [Resource::Pipeline("a"), Resource::AnyPipeline, Resource::WholeServer, Resource::Myself]
    {
        assert!(Policy::default().authorize(&nobody, Read, resource).is_err(), "{resource:?}");
    }
    assert!(Policy::default().permissions_of(&nobody).is_empty());
}

#[test]
fn an_open_policy_says_yes_and_only_it_does() {
    let open = policy().danger_open(true);
    for principal in [Principal::open(), Principal::anonymous(), key("viewer", &["a"], &[])] {
        assert!(open.authorize(&principal, Admin, Resource::SecurityAdmin).is_ok());
        assert!(open.authorize(&principal, Execute, Resource::Pipeline("closed")).is_ok());
        assert!(open.permissions_of(&principal).grants(Admin));
        assert!(policy().authorize(&principal, Execute, Resource::Pipeline("closed")).is_err());
    }
}

mod explained {
    use proptest::prelude::*;

    use super::*;

    const PIPELINES: [&str; 3] = ["a", "b", "c1"];
    const ROLES: [&str; 3] = ["x", "y", "z"];

    fn permissions() -> impl Strategy<Value = PermissionSet> {
        proptest::collection::vec(proptest::sample::select(Permission::ALL.to_vec()), 0..3)
            .prop_map(PermissionSet::from_iter)
    }

    fn roles() -> impl Strategy<Value = Vec<String>> {
        proptest::sample::subsequence(ROLES.map(str::to_owned).to_vec(), 0..=3)
    }

    fn policies() -> impl Strategy<Value = Policy> {
        let lists = proptest::collection::btree_map(
            proptest::sample::select(Permission::ALL.to_vec()),
            roles(),
            0..3,
        );
        let acls = proptest::collection::btree_map(
            proptest::sample::select(PIPELINES.map(str::to_owned).to_vec()),
            lists.prop_map(Acl::new),
            0..3,
        );
        let granted = proptest::collection::btree_map(
            proptest::sample::select(ROLES.map(str::to_owned).to_vec()),
            permissions(),
            0..3,
        );
        (acls, granted, any::<bool>(), proptest::bool::weighted(0.1)).prop_map(
            |(acls, granted, anonymous, open)| {
                Policy::new(acls, granted).with_anonymous_read(anonymous).danger_open(open)
            },
        )
    }

    fn principals() -> impl Strategy<Value = Principal> {
        let kinds = vec![
            PrincipalKind::ApiKey,
            PrincipalKind::Certificate,
            PrincipalKind::Jwt,
            PrincipalKind::Jwt,
            PrincipalKind::Anonymous,
            PrincipalKind::Open,
        ];
        let lists = proptest::sample::subsequence(vec!["a", "b", "c*", "*"], 0..=2);
        (proptest::sample::select(kinds), roles(), lists, permissions(), proptest::bool::weighted(0.1))
            .prop_map(|(kind, roles, list, permissions, expired)| {
                let own = matches!(kind, PrincipalKind::ApiKey | PrincipalKind::Certificate);
                Principal {
                    id: "someone".to_owned(),
                    kind,
                    issuer: None,
                    roles,
                    whitelist: if own { Whitelist::parse(&list).unwrap() } else { Whitelist::Unrestricted },
                    permissions: if own { permissions } else { PermissionSet::EMPTY },
                    expires_at: expired.then_some(Timestamp::UNIX_EPOCH),
                    proof: Proof::None,
                }
            })
    }

    fn resources() -> impl Strategy<Value = Resource<'static>> {
        let pipelines = PIPELINES.map(Resource::Pipeline);
        let all = [Resource::AnyPipeline, Resource::WholeServer, Resource::SecurityAdmin, Resource::Myself];
        proptest::sample::select([&pipelines[..], &pipelines[..], &all[..]].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        /// What is explained is what is decided; each suggested change turns it.
        #[test]
        fn is_the_decision_and_each_change_turns_it(
            policy in policies(),
            principal in principals(),
            resource in resources(),
            permission in proptest::sample::select(Permission::ALL.to_vec()),
        ) {
            let (now, principal) = (Timestamp::now(), Arc::new(principal));
            let decided = policy.decide(&principal, permission, resource, now);
            let why = policy.explain(&principal, permission, resource, now);
            prop_assert_eq!((why.allowed, why.rule), (decided.allowed, decided.rule));
            let (last, before) = why.chain.split_last().unwrap();
            let finding = if decided.allowed { Finding::Allows } else { Finding::Denies };
            prop_assert_eq!(*last, Look { rule: decided.rule, finding });
            prop_assert!(before.iter().all(|look| look.finding == Finding::GoesOn));
            for change in &why.changes {
                let (mut policy, mut principal) = (policy.clone(), (*principal).clone());
                for edit in &change.edits {
                    edit.apply(&mut policy, &mut principal, now);
                    prop_assert!(!edit.describe(&principal).text.is_empty());
                }
                let turned = policy.decide(&principal, permission, resource, now);
                prop_assert_ne!(turned.allowed, decided.allowed, "{:?}", change);
            }
            // Nothing is to be done for nothing.
            for (number, change) in why.changes.iter().enumerate() {
                let within = |less: &Change| less.edits.iter().all(|edit| change.edits.contains(edit));
                prop_assert!(!why.changes[..number].iter().any(within), "{:?}", why.changes);
            }
            // Who has proved who it is can always be let in, and be kept out.
            if principal.is_authenticated() {
                prop_assert!(!why.changes.is_empty(), "{:?} {:?}", principal, why.rule);
            }
        }
    }

    #[test]
    fn what_would_help_is_said_in_words() {
        let words = |principal: &Arc<Principal>, permission, pipeline| -> Vec<String> {
            let why = policy().explain(principal, permission, Resource::Pipeline(pipeline), Timestamp::now());
            let all = |change: &Change| {
                let texts = change.edits.iter().map(|edit| edit.describe(principal).text);
                texts.collect::<Vec<_>>().join(" and ")
            };
            why.changes.iter().map(all).collect()
        };
        assert_eq!(
            words(&key("guest", &[], &[Read]), Read, "guarded"),
            [
                "add role `guest` to pipeline_acls.guarded.read",
                "give the key `k` the role `admin`",
                "give the key `k` the role `viewer`",
            ]
        );
        assert_eq!(
            words(&key("viewer", &["a"], &[]), Read, "guarded"),
            [
                "add `guarded` to the pipelines of the key `k` and add `read` to the permissions of the key `k`"
            ]
        );
        assert_eq!(
            words(&token(&["reader"]), Execute, "a"),
            [
                "add `execute` to role_permissions.reader",
                "give the token of `ada` the role `admin`",
                "give the token of `ada` the role `runner`",
            ]
        );
        assert_eq!(
            words(&token(&["viewer"]), Read, "guarded"),
            ["remove role `viewer` from pipeline_acls.guarded.read", "revoke the token of `ada`"]
        );
    }

    /// All five things that a key can lack at once.
    #[test]
    fn several_edits_are_found_together() {
        let mut principal = (*key("viewer", &["b"], &[])).clone();
        principal.roles.clear();
        principal.expires_at = Some(Timestamp::UNIX_EPOCH);
        let principal = Arc::new(principal);
        let why = policy().explain(&principal, Execute, Resource::Pipeline("closed"), Timestamp::now());
        assert_eq!((why.allowed, why.rule), (false, Rule::Expired));
        assert_eq!(why.changes[0].edits.len(), 5, "{:?}", why.changes);
    }

    /// The clones that are tried are of the whole policy: their number must not grow with it.
    #[test]
    fn a_policy_of_many_roles_is_explained_as_soon() {
        let roles: Vec<String> = (0..500).map(|n| format!("role{n}")).collect();
        let acls = (0..50).map(|n| (format!("p{n}"), Acl::new([(Read, roles.clone())]))).collect();
        let policy = Policy::new(acls, BTreeMap::new());
        let nobody = token(&[]);
        let why = policy.explain(&nobody, Read, Resource::Pipeline("p1"), Timestamp::now());
        assert_eq!(why.changes.len(), 8);
        let all: Vec<&str> = roles.iter().map(String::as_str).collect();
        let why = policy.explain(&token(&all), Read, Resource::AnyPipeline, Timestamp::now());
        assert!(why.allowed && !why.changes.is_empty());
    }
}
