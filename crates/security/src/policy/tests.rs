use super::*;
use crate::api_key::{KeyDigest, KeyRecord, KeyRing};
use crate::principal::Proof;
use crate::whitelist::Whitelist;
use Permission::{Admin, Execute, Read};

fn key(role: &str, pipelines: &[&str], permissions: &[Permission]) -> Arc<Principal> {
    let record = KeyRecord {
        digest: KeyDigest::of("k"),
        id: "k".to_owned(),
        roles: vec![role.to_owned()],
        whitelist: Whitelist::parse(pipelines).unwrap(),
        permissions: permissions.iter().copied().collect(),
        expires_at: None,
    };
    KeyRing::new([record]).unwrap().find("k", Timestamp::now()).unwrap()
}

fn token(roles: &[&str]) -> Arc<Principal> {
    Arc::new(Principal {
        id: "ada".to_owned(),
        kind: PrincipalKind::Jwt,
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
