//! What can be told of the files without running them in containers.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};
use taskiq_flow_testkit::{Cli, Redis, Server};

use crate::support::{PROGRAM, deploy, service, text};

fn compose() -> Value {
    serde_saphyr::from_str(&text("docker-compose.yml")).expect("docker-compose.yml is YAML")
}

/// The file with `.env`'s variables in it, as `docker compose` puts them there.
fn interpolated(password: &str) -> Value {
    let text = text("docker-compose.yml")
        .replace("${REDIS_PASSWORD:?run deploy/prepare.sh first}", password)
        .replace("${HTTP_PORT:-80}", "80")
        .replace("${HTTPS_PORT:-443}", "443")
        .replace("$$", "\u{1}");
    assert!(!text.contains("${"), "a variable that .env does not have");
    serde_saphyr::from_str(&text.replace('\u{1}', "$")).unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn the_password_in_redis_url_is_the_one_that_redis_requires() {
    let compose = interpolated("the0password");
    let redis = &compose["services"]["redis"];
    assert_eq!(redis["environment"]["REDIS_PASSWORD"], "the0password");
    // The command itself, with the environment it is given, in a real shell and a real Redis.
    let command = texts(&redis["command"]);
    assert_eq!(&command[..2], ["sh", "-c"]);
    let started = command[2].replacen("exec redis-server", "printf '%s ' ", 1);
    assert_ne!(started, command[2], "it starts redis-server");
    let output =
        Command::new("sh").args(["-c", &started]).env("REDIS_PASSWORD", "the0password").output().unwrap();
    let arguments = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let required = words.iter().position(|word| *word == "--requirepass").map(|at| words[at + 1]);
    assert_eq!(required, Some("the0password"), "{arguments}");

    let url = compose["services"]["taskiq-flow"]["environment"]["REDIS_URL"].as_str().unwrap();
    assert_eq!(url, "redis://:the0password@redis:6379/0");
    // And that is how the service gives it: it counts in a Redis that wants this password.
    let redis = Redis::start("the0password").await;
    let url = url.replace("redis:6379", &format!("127.0.0.1:{}", redis.port()));
    let server = service().env("REDIS_URL", url).start().await;
    assert_eq!(server.client().key("k").get("/pipelines").await.status, 200);
    assert!(!redis.command(&["KEYS", "*"]).await.starts_with("*0"));
    // No password is in the repository.
    assert!(text(".env.example").contains("REDIS_PASSWORD=replace-this"));
    assert!(text(".gitignore").lines().any(|line| line == "/.env"));
}

#[test]
fn only_nginx_can_be_reached_from_outside() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        assert_eq!(service.get("ports").is_some(), name == "nginx", "{name}");
        assert_ne!(service["network_mode"], "host", "{name}");
    }
    assert_eq!(compose["networks"]["data"]["internal"], true);
    // nginx and Redis have no network in common, and the proxy's network is what the service trusts.
    let networks =
        |name: &str| texts(&compose["services"][name]["networks"]).into_iter().collect::<BTreeSet<_>>();
    assert!(networks("nginx").is_disjoint(&networks("redis")));
    let subnet = &compose["networks"]["edge"]["ipam"]["config"][0]["subnet"];
    let trusted =
        compose["services"]["taskiq-flow"]["environment"]["TASKIQ_FLOW_TRUSTED_PROXIES"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(trusted).unwrap(), json!([subnet]));
}

#[test]
fn every_file_that_is_referred_to_is_there_or_made_by_prepare() {
    let compose = compose();
    let made = ["./tls", "./secrets/api_keys.json"];
    let mut files = vec![compose["secrets"]["api_keys"]["file"].as_str().unwrap().to_owned()];
    for (name, service) in compose["services"].as_object().unwrap() {
        for mount in texts(&service["volumes"]) {
            let source = mount.split(':').next().unwrap().to_owned();
            match source.starts_with('.') {
                true => files.push(source),
                false => assert!(compose["volumes"].get(&source).is_some(), "{name}: no volume {source}"),
            }
        }
        for network in texts(&service["networks"]) {
            assert!(compose["networks"].get(&network).is_some(), "{name}: no network {network}");
        }
        for secret in texts(&service["secrets"]) {
            assert!(compose["secrets"].get(&secret).is_some(), "{name}: no secret {secret}");
        }
        for needed in service["depends_on"].as_object().into_iter().flatten() {
            assert!(compose["services"].get(needed.0).is_some(), "{name}: no service {}", needed.0);
        }
    }
    let build = &compose["services"]["taskiq-flow"]["build"];
    let context = deploy().join(build["context"].as_str().unwrap());
    assert!(context.join(build["dockerfile"].as_str().unwrap()).is_file());
    for file in files {
        assert!(made.contains(&file.as_str()) || deploy().join(&file).exists(), "{file}");
    }
}

#[tokio::test]
async fn the_services_environment_is_a_configuration() {
    let compose = interpolated("p");
    let environment = compose["services"]["taskiq-flow"]["environment"].as_object().unwrap().clone();
    let mut server = Server::builder(PROGRAM);
    let keys = server.dir().join("keys.json");
    std::fs::write(&keys, r#"{"k": {"role": "r", "permissions": ["read"]}}"#).unwrap();
    for (name, value) in environment {
        let value = value.as_str().unwrap();
        let value = value.replace("/run/secrets/api_keys", &keys.display().to_string());
        let value = value.replace("/var/lib/taskiq-flow/", "");
        server = server.env(&name, value);
    }
    // As the container of nginx would come from its network, this client does not: nothing of it is believed.
    let server = server.start().await;
    assert_eq!(server.client().key("k").get("/pipelines").await.status, 403);
    let log = server.stderr();
    assert!(!log.contains("unknown"), "{log}");
    let exit = server.stop().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}

/// The words of a Dockerfile's instruction in its JSON form.
fn instruction(name: &str) -> Vec<String> {
    let dockerfile = text("Dockerfile").replace("\\\n", " ");
    let last = dockerfile.split("\nFROM ").last().unwrap().to_owned();
    let line = last.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    let list = &line[line.find('[').unwrap()..];
    texts(&serde_json::from_str(list).unwrap_or_else(|error| panic!("{name}: {error}")))
}

#[tokio::test]
async fn the_images_health_check_tells_a_server_that_answers_from_none() {
    let server = service().start().await;
    let check = instruction("HEALTHCHECK");
    let run = |port: u16| {
        let words: Vec<String> =
            check.iter().map(|word| word.replace("/8000", &format!("/{port}"))).collect();
        Command::new(&words[0]).args(&words[1..]).output().unwrap().status.success()
    };
    assert!(run(server.port()));
    let port = server.port();
    server.stop().await;
    assert!(!run(port));
}

#[tokio::test]
async fn the_images_command_is_one() {
    assert_eq!(instruction("ENTRYPOINT"), ["taskiq-flow"]);
    let command = instruction("CMD");
    assert!(text("Dockerfile").contains("EXPOSE 8000") && command.contains(&"8000".to_owned()));
    // The options exist: help lists them.
    let help = Cli::new(PROGRAM).run([command[0].as_str(), "--help"]).await;
    assert_eq!(help.code, Some(0), "{}", help.output());
    for option in command.iter().filter(|word| word.starts_with("--")) {
        assert!(help.output().contains(option.as_str()), "{option}");
    }
    let dockerfile = text("Dockerfile");
    assert!(dockerfile.contains("\nUSER 10001\n"), "not root");
    assert!(text("Dockerfile.dockerignore").lines().any(|line| line == "deploy/.env"));
    for copied in dockerfile.lines().filter_map(|line| line.strip_prefix("COPY examples")) {
        let source = copied.split_whitespace().next().unwrap();
        assert!(deploy().join(format!("../examples{source}")).exists(), "{source}");
    }
}

#[tokio::test]
async fn the_units_command_and_configuration_are_accepted() {
    let unit = text("systemd/taskiq-flow.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/taskiq-flow ")).unwrap();
    let help = Cli::new(PROGRAM).run(["serve", "--help"]).await.output();
    for option in start.split_whitespace().filter(|word| word.starts_with("--")) {
        assert!(help.contains(option), "{option}");
    }
    assert!(unit.contains("/etc/taskiq-flow/taskiq-flow.toml"));
    let cli = Cli::new(PROGRAM);
    let keys = cli.file("keys.json", r#"{"k": {"role": "r", "permissions": ["read"]}}"#);
    let credential = "/run/credentials/taskiq-flow.service/api_keys";
    let config = text("systemd/taskiq-flow.toml");
    assert!(config.contains(credential) && unit.contains("LoadCredential=api_keys:"));
    let file = cli.file("taskiq-flow.toml", &config.replace(credential, &keys.display().to_string()));
    let exit = cli.run(["check".as_ref(), file.as_os_str()]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.output());
}
