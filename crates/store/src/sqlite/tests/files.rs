//! Files that are missing, damaged, taken, or not ours.

use std::fs;

use rusqlite::Connection;

use super::*;
use crate::conformance::record;

fn refusal(path: impl Into<PathBuf>) -> StoreError {
    SqliteStore::open(SqliteOptions::new(path)).unwrap_err()
}

async fn filled(directory: &TempDir) -> PathBuf {
    let store = relaxed(directory);
    let owner = Uuid::now_v7();
    let runs = (0..200).map(|_| RunWrite::Create {
        run: Box::new(record("p", 0)),
        owner,
        firing: None,
        replays: None,
    });
    store.write(runs.collect()).await.unwrap();
    store.close().await;
    store.path.clone()
}

#[tokio::test]
async fn one_process_has_the_file() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("t.db");
    let store = open(&path, Durability::Strict);
    let error = refusal(&path);
    assert_eq!(error, StoreError::Locked { path: path.canonicalize().unwrap() });
    assert!(error.to_string().contains("t.db") && error.to_string().contains("store_url"), "{error}");
    let roundabout = directory.path().join(".").join("t.db");
    assert!(matches!(refusal(roundabout), StoreError::Locked { .. }), "by another name");
    store.close().await;
    open(&path, Durability::Strict);
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    store.check().await.unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
        seen += 1;
    }
    assert_eq!(seen, 4, "the file, its log, the log's index, its lock");
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_leads_to_the_same_lock() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&store.path, &link).unwrap();
    assert!(matches!(refusal(link), StoreError::Locked { .. }));
}

#[test]
fn places_that_cannot_be_are_named() {
    let directory = TempDir::new().unwrap();
    let missing = refusal(directory.path().join("no/such/t.db")).to_string();
    assert!(missing.contains("no/such` does not exist; create it"), "{missing}");
    let is_directory = refusal(directory.path()).to_string();
    assert!(is_directory.contains("it is a directory"), "{is_directory}");
    assert!(refusal("").to_string().contains("names no file"));
    fs::write(directory.path().join("file"), "x").unwrap();
    assert!(matches!(refusal(directory.path().join("file/t.db")), StoreError::Io { .. }));
}

#[test]
fn an_empty_file_is_a_new_store() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("t.db"), "").unwrap();
    relaxed(&directory);
}

#[test]
fn a_file_of_another_kind_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("t.db");
    let text = "this is no database. ".repeat(100);
    fs::write(&path, &text).unwrap();
    let error = refusal(&path);
    assert!(
        matches!(&error, StoreError::Corrupt { what, .. } if what.contains("not an SQLite database")),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("t.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE runs (id); INSERT INTO runs VALUES (1)").unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    assert!(matches!(refusal(&path), StoreError::Foreign { .. }));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = filled(&directory).await;
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = refusal(&path);
    assert_eq!(error, StoreError::NewerSchema { path: path.clone(), found: 99, known: schema::NEWEST });
    let connection = Connection::open(&path).unwrap();
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

#[tokio::test]
async fn damage_is_found_and_told() {
    let directory = TempDir::new().unwrap();
    let path = filled(&directory).await;
    let whole = fs::read(&path).unwrap();
    assert!(whole.len() > 10 * 4096, "closing folds the log into the file");
    let cut = whole[..whole.len() / 2].to_vec();
    let mut overwritten = whole.clone();
    overwritten[4096 * 2..4096 * 12].fill(0x5a);
    let mut headless = whole.clone();
    headless[..16].fill(0);
    for (what, damaged) in [("cut", cut), ("overwritten", overwritten), ("headless", headless)] {
        fs::write(&path, damaged).unwrap();
        let error = refusal(&path);
        assert!(
            matches!(&error, StoreError::Corrupt { path: place, .. } if *place == path),
            "{what}: {error}"
        );
        assert!(error.to_string().contains("restore it from a backup"), "{error}");
    }
    fs::write(&path, whole).unwrap();
    assert_eq!(
        open(&path, Durability::Relaxed)
            .claim(Uuid::now_v7(), Timestamp::now(), Timestamp::MAX, 999)
            .await
            .unwrap()
            .len(),
        200
    );
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_told_apart() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let run = record("p", 0);
    let id = run.run_id;
    store
        .write(vec![RunWrite::Create {
            run: Box::new(run),
            owner: Uuid::now_v7(),
            firing: None,
            replays: None,
        }])
        .await
        .unwrap();
    let spoil = "UPDATE run_log SET body = X'7b'";
    store.writer.carry_out(move |batch| Ok(batch.connection.execute(spoil, [])?)).await.unwrap();
    let error = store.run(id).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { what, .. } if what.contains(&id.to_string())), "{error}");
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_file_of_the_first_version_is_brought_to_the_newest() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("t.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(schema::VERSION_1).unwrap();
    old.execute("INSERT INTO pipelines (id, newest, deleted) VALUES ('p', 7, 0)", []).unwrap();
    old.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    let store = open(&path, Durability::Strict);
    assert!(store.security_records().await.unwrap().is_empty());
    assert_eq!(store.pipeline_version(&"p".parse().unwrap()).await.unwrap(), 7, "what was there is kept");
    store.close().await;
    let now = Connection::open(&path).unwrap();
    let version: u32 = now.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, schema::NEWEST);
}

#[tokio::test]
async fn deliveries_of_earlier_programs_are_told_apart_by_their_pipelines() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("t.db");
    let old = Connection::open(&path).unwrap();
    for migration in &schema::MIGRATIONS[..5] {
        old.execute_batch(migration).unwrap();
    }
    let document = r#"{"body": {"pipeline_id": "etl"}}"#;
    for (id, dead, document) in [(1_u8, 0, document), (2, 1, document), (3, 1, "no JSON")] {
        let row = rusqlite::params![[id; 16], dead, document.as_bytes()];
        old.execute(
            "INSERT INTO deliveries (id, hook, next_at, dead, document) VALUES (?1, 'ops', 0, ?2, ?3)",
            row,
        )
        .unwrap();
    }
    old.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
    old.pragma_update(None, "user_version", 5).unwrap();
    drop(old);
    let store = open(&path, Durability::Strict);
    let stats: Vec<_> = store.delivery_stats().await.unwrap();
    let stats = stats.iter().map(|of| (&*of.pipeline, of.waiting, of.waiting_bytes, of.dead));
    assert_eq!(stats.collect::<Vec<_>>(), [("", 0, 0, 1), ("etl", 1, document.len() as u64, 1)]);
}

#[tokio::test]
async fn security_records_that_make_no_sense_are_no_part_of_an_answer() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let record = |id: &str| crate::SecurityRecord {
        kind: "key".to_owned(),
        id: id.to_owned(),
        body: serde_json::json!({}),
        updated_at: Timestamp::from_millis(1),
    };
    let both = ["a", "b"].map(|id| crate::SecurityChange::Put(record(id)));
    store.change_security(both.to_vec()).await.unwrap();
    let spoil = "UPDATE security SET body = X'7b' WHERE id = 'b'";
    store.writer.carry_out(move |batch| Ok(batch.connection.execute(spoil, [])?)).await.unwrap();
    let error = store.security_records().await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { what, .. } if what.contains("`b`")), "{error}");
}
