//! Preparing a live server: pipelines, runs, schedules and keys of the matrix's own, and taking them away again.
//!
//! Everything made is named `selftest-…`, is written down before it is made, and ends by itself where it can: keys
//! expire after an hour. What stays are the ended runs of the pipelines, until the server's `retention_days`.

use std::time::Duration;

use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::client::{Answer, Client, ClientError};
use crate::model::{Acl, Kind, Permission, Pipeline, Rights};
use crate::routes::differences;
use crate::world::{Caller, Credential, Target, World};

use Permission::{Admin, Execute, Read};

/// How long keys live, in case that nothing takes them away.
const KEY_LIFE: SignedDuration = SignedDuration::from_hours(1);
/// How long the key lives that is to have expired.
const SHORT_LIFE: SignedDuration = SignedDuration::from_secs(2);
/// A role that one ACL lists, and nothing else knows.
const KEEPER: &str = "selftest-keeper";
/// A run id that is well formed and nobody's.
const NO_RUN: &str = "0190a000-0000-7000-8000-000000000000";

/// Makes a token that the server accepts: for a subject with these roles, good for longer than the test.
pub type Mint<'a> = dyn Fn(&str, &[&str]) -> Result<String, String> + Send + Sync + 'a;

/// What has been made, to be taken away.
#[derive(Debug, Default)]
pub struct Traces {
    paths: Vec<String>,
}

/// A server that is ready to be asked.
#[derive(Debug)]
pub struct Prepared {
    /// Whether client certificates are credentials of the server.
    pub knows_certificates: bool,
    /// Whom and what to ask.
    pub world: World,
    /// What the matrix says of the server before anything is asked: routes without a rule.
    pub differences: Vec<String>,
    /// How many bad credentials a minute the server bears, less a margin; none: any number.
    pub bad_credentials_per_minute: Option<u32>,
}

/// Why a server cannot be tested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// It does not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The key is not one that may do this.
    #[error("the key must be an unrestricted admin's: {0}")]
    Key(String),
    /// It answers something else than expected.
    #[error("{what}: answered {status}: {detail}")]
    Answer {
        /// What was asked.
        what: String,
        /// The status.
        status: u16,
        /// What the problem says.
        detail: String,
    },
    /// No token can be made.
    #[error("no token can be made: {0}")]
    Mint(String),
    /// The server takes a certificate for something else than its configuration says.
    #[error("the certificate {0} is accepted, and no entry of client_certificates is for it")]
    Certificate(String),
    /// Security is off: there is nothing to test.
    #[error("security is off on this server: everybody may do everything")]
    Open,
}

/// Prepares a server. `certificates` are those that `client` can show, by name. Whatever comes of it, [`Traces::remove`] must follow.
///
/// # Errors
/// [`SetupError`].
pub async fn prepare(
    client: &Client,
    admin: &Credential,
    mint: Option<&Mint<'_>>,
    certificates: &[String],
    traces: &mut Traces,
) -> Result<Prepared, SetupError> {
    let server = Live { client, admin };
    let me = server.get("/me").await?;
    if me["type"] == "open" {
        return Err(SetupError::Open);
    }
    let has =
        |list: &str, entry: &str| me[list].as_array().is_some_and(|all| all.iter().any(|one| one == entry));
    if !has("permissions", "admin") || !has("pipelines", "*") {
        return Err(SetupError::Key(format!("`{}` is restricted", me["id"].as_str().unwrap_or_default())));
    }
    let config = server.get("/security/config").await?;
    let document = server.get("/openapi.json").await?;
    let root = server.get("/").await?;
    // Ids of two tests at the same time must differ; the clock's nanoseconds will do.
    let mark = format!("selftest-{:x}", Timestamp::now().as_nanosecond() & 0xffff_ffff_ffff);
    let mut world = World { metrics: root["metrics"].as_str().map(str::to_owned), ..World::default() };

    for (name, guarded) in [("a", false), ("b", false), ("c", true)] {
        let id = format!("{mark}-{name}");
        world.targets.push(server.target(&id, guarded, traces).await?);
    }
    let missing = format!("{mark}-d");
    let (run, schedule) = (NO_RUN.to_owned(), missing.clone());
    world.targets.push(Target { pipeline: Pipeline::missing(&missing), run, schedule });

    world.acls = acls(&config["pipeline_acls"]);
    world.acls.extend(world.targets.iter().filter_map(|target| target.pipeline.acl.clone()));
    world.callers = server.keys(&mark, &world, traces).await?;
    if let Some(mint) = mint {
        world.callers.extend(tokens(mint, &config["role_permissions"]).map_err(SetupError::Mint)?);
    }
    for name in certificates {
        world.callers.push(server.holder(name, &config["client_certificates"]).await?);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok(Prepared {
        world,
        differences: differences(operations(&document).iter().map(|(method, path)| (&**method, &**path))),
        knows_certificates: config["client_certificates"]
            .as_object()
            .is_some_and(|entries| !entries.is_empty()),
        bad_credentials_per_minute: bearable(config["auth_failure_limit"].as_str().unwrap_or_default()),
    })
}

/// A server and the key that administers it.
struct Live<'a> {
    client: &'a Client,
    admin: &'a Credential,
}

impl Live<'_> {
    async fn get(&self, path: &str) -> Result<Value, SetupError> {
        Ok(self.done(Method::GET, path, None).await?.json())
    }

    async fn done(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer, SetupError> {
        let body = body.map(|body| body.to_string());
        let answer = self.client.ask_patiently(method.clone(), path, self.admin, body).await?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        Err(SetupError::Answer { what: format!("{method} {path}"), status: answer.status, detail })
    }

    /// A pipeline with an ended run and a schedule that never comes.
    async fn target(&self, id: &str, guarded: bool, traces: &mut Traces) -> Result<Target, SetupError> {
        let path = format!("/pipelines/{id}");
        let definition = json!({
            "description": "Made by a self-test, which takes it away",
            "tasks": [{"name": "probe", "expression": "1", "output": "one"}],
        });
        traces.note(&path);
        self.done(Method::PUT, &path, Some(definition)).await?;
        let mut pipeline = Pipeline::open(id);
        if guarded {
            pipeline = pipeline.listing(Read, &[KEEPER]).listing(Execute, &[KEEPER]);
            let path = format!("/security/acls/{id}");
            traces.note(&path);
            let acl = json!({"read": [KEEPER], "execute": [KEEPER]});
            self.done(Method::PUT, &path, Some(acl)).await?;
        }
        let body = json!({"wait": true, "timeout": 30});
        let run = self.done(Method::POST, &format!("{path}/execute"), Some(body)).await?.json();
        let run = run["run_id"].as_str().unwrap_or_default().to_owned();
        traces.note(&format!("/schedules/{id}"));
        let schedule = json!({"id": id, "pipeline_id": id, "at": "2099-01-01T00:00:00Z", "enabled": false});
        self.done(Method::POST, "/schedules", Some(schedule)).await?;
        Ok(Target { pipeline, run, schedule: id.to_owned() })
    }

    /// Nobody, keys that are not accepted, and keys that are.
    async fn keys(&self, mark: &str, world: &World, traces: &mut Traces) -> Result<Vec<Caller>, SetupError> {
        let (mine, other) = (world.targets[0].pipeline.id.as_str(), world.targets[1].pipeline.id.as_str());
        let viewer = |pipelines: &[&str], permissions: &[Permission]| {
            Rights::of_key("selftest-viewer", pipelines, permissions)
        };
        let revoked = self.key(mark, "revoked", &viewer(&[], &[Read, Execute]), KEY_LIFE, traces).await?;
        self.done(Method::DELETE, &format!("/security/keys/{mark}-revoked"), None).await?;
        let expired = self.key(mark, "expired", &viewer(&[], &[Read, Execute]), SHORT_LIFE, traces).await?;
        let mut callers = vec![
            Caller::nobody(),
            Caller::with_bad_key("unknown key", &turned(&revoked)),
            Caller::with_bad_key("malformed key", "not-a-key"),
            Caller::with_bad_key("revoked key", &revoked),
            Caller::with_bad_key("expired key", &expired),
        ];
        for (id, name, rights) in [
            ("other", "key of another pipeline", viewer(&[other], &[Read, Execute])),
            ("reader", "read-only key", viewer(&[mine], &[Read])),
            ("runner", "execute-only key", viewer(&[mine], &[Execute])),
            ("glob", "read and execute key, by pattern", viewer(&[&format!("{mark}-*")], &[Read, Execute])),
            ("wide", "unrestricted read key", viewer(&[], &[Read])),
            ("keeper", "key whose role the ACL lists", Rights::of_key(KEEPER, &[], &[Read])),
            ("local", "admin of one pipeline", Rights::of_key("selftest-admin", &[mine], &[Admin])),
            ("admin", "unrestricted admin", Rights::of_key("selftest-admin", &[], &[Admin])),
        ] {
            let key = self.key(mark, id, &rights, KEY_LIFE, traces).await?;
            callers.push(Caller::with_key(name, &key, rights));
        }
        Ok(callers)
    }

    /// Who shows a certificate: what the entry says that the server finds for it, or nobody.
    async fn holder(&self, name: &str, entries: &Value) -> Result<Caller, SetupError> {
        let shown = Credential::Certificate(name.to_owned());
        let me = self.client.ask_patiently(Method::GET, "/me", &shown, None).await?;
        if me.status == 401 {
            return Ok(Caller::with_idle_certificate(
                &format!("certificate {name}, which nobody names"),
                name,
            ));
        }
        let me = me.json();
        let entry = entries.as_object().into_iter().flatten().map(|(_, entry)| entry);
        let entry = entry.into_iter().find(|entry| me["type"] == "certificate" && entry["id"] == me["id"]);
        let entry = entry.ok_or_else(|| SetupError::Certificate(name.to_owned()))?;
        let list = |field: &str| texts(&entry[field]);
        let permissions = list("permissions");
        let rights = Rights {
            kind: Kind::Key,
            roles: list("roles"),
            pipelines: list("pipelines"),
            permissions: permissions.iter().filter_map(|name| Permission::named(name)).collect(),
        };
        Ok(Caller::with_certificate(&format!("certificate {name}"), name, rights))
    }

    async fn key(
        &self,
        mark: &str,
        name: &str,
        rights: &Rights,
        life: SignedDuration,
        traces: &mut Traces,
    ) -> Result<String, SetupError> {
        let id = format!("{mark}-{name}");
        let all = ["*".to_owned()];
        let pipelines = if rights.pipelines.is_empty() { &all[..] } else { &rights.pipelines };
        let permissions: Vec<_> = rights.permissions.iter().map(|permission| permission.as_str()).collect();
        let body = json!({
            "id": id, "role": rights.roles.first(), "pipelines": pipelines, "permissions": permissions,
            "expires_at": (Timestamp::now() + life).to_string(),
        });
        traces.note(&format!("/security/keys/{id}"));
        let made = self.done(Method::POST, "/security/keys", Some(body)).await?.json();
        Ok(made["key"].as_str().unwrap_or_default().to_owned())
    }
}

impl Traces {
    fn note(&mut self, path: &str) {
        self.paths.push(path.to_owned());
    }

    /// Whether nothing was made.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Takes away what was made, the last first; gives what could not be taken away, and why.
    pub async fn remove(&mut self, client: &Client, admin: &Credential) -> Vec<String> {
        let mut left = Vec::new();
        while let Some(path) = self.paths.pop() {
            match client.ask_patiently(Method::DELETE, &path, admin, None).await {
                // What was taken away before, or never came to be.
                Ok(answer) if (200..300).contains(&answer.status) || answer.status == 404 => {}
                Ok(answer) => left.push(format!("{path}: answered {}", answer.status)),
                Err(error) => left.push(format!("{path}: {error}")),
            }
        }
        left
    }
}

/// Twins of the keys, as far as the server's roles go, and tokens that are not accepted.
fn tokens(mint: &Mint<'_>, role_permissions: &Value) -> Result<Vec<Caller>, String> {
    let token = |role: &str| mint("selftest", &[role]);
    let nobody = "selftest-nobody";
    let mut callers = vec![
        Caller::with_bad_token("malformed token", "not.a.token"),
        Caller::with_bad_token("token with another signature", &turned(&token("admin")?)),
        Caller::with_token("token without a known role", &token(nobody)?, Rights::of_token(&[nobody], &[])),
        Caller::with_token("token by ACL alone", &token(KEEPER)?, Rights::of_token(&[KEEPER], &[])),
    ];
    for (role, permissions) in role_permissions.as_object().into_iter().flatten().take(5) {
        let permissions = permissions.as_array().into_iter().flatten().filter_map(Value::as_str);
        let permissions: Vec<Permission> = permissions.filter_map(Permission::named).collect();
        let name = format!("token of role `{role}`");
        let rights = Rights::of_token(&[role.as_str()], &permissions);
        callers.push(Caller::with_token(&name, &token(role)?, rights));
    }
    Ok(callers)
}

/// The credential with other characters in its middle: of the same form, and nobody's.
fn turned(credential: &str) -> String {
    let turn = |(at, c): (usize, char)| match (at, c) {
        (at, _) if at < credential.len() * 2 / 3 || at > credential.len() - 3 => c,
        (_, 'a'..='y') | (_, 'A'..='Y') | (_, '0'..='8') => char::from_u32(u32::from(c) + 1).unwrap_or(c),
        (_, c) => c,
    };
    credential.chars().enumerate().map(turn).collect()
}

fn acls(config: &Value) -> Vec<Acl> {
    let acl = |lists: &Value| -> Acl {
        let lists = lists.as_object().into_iter().flatten();
        lists.filter_map(|(name, list)| Some((Permission::named(name)?, texts(list)))).collect()
    };
    config.as_object().into_iter().flatten().map(|(_, lists)| acl(lists)).collect()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Methods and paths of an OpenAPI document.
pub fn operations(document: &Value) -> Vec<(String, String)> {
    const METHODS: [&str; 7] = ["get", "put", "post", "delete", "patch", "options", "trace"];
    let paths = document["paths"].as_object().into_iter().flatten();
    let methods = |item: &Value| -> Vec<String> {
        let names = item.as_object().into_iter().flatten().map(|(name, _)| name.clone());
        names.filter(|name| METHODS.contains(&name.as_str())).collect()
    };
    paths.flat_map(|(path, item)| methods(item).into_iter().map(|method| (method, path.clone()))).collect()
}

/// Three quarters of `20/minute`; of a text that is written otherwise, few enough for most.
fn bearable(limit: &str) -> Option<u32> {
    let number = |unit: &str| limit.strip_suffix(unit)?.trim().parse::<u32>().ok();
    match limit {
        "" => None,
        _ => Some(number("/minute").map_or(5, |number| (number * 3 / 4).max(1))),
    }
}
