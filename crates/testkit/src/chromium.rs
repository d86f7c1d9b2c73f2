//! The real browser.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::command::directory;
use crate::process::Process;

/// Debian's Chromium, without a window.
#[derive(Debug)]
pub struct Chromium;

impl Chromium {
    /// Writes a picture of a page, as it looks two seconds after its load, as PNG to `path`.
    ///
    /// # Panics
    /// When there is none after a minute.
    pub async fn screenshot(url: &str, path: &Path) {
        let argument = format!("--screenshot={}", path.display());
        let exit = Self::run(&[&argument, "--window-size=1280,900", "--virtual-time-budget=2000", url]).await;
        assert!(path.exists(), "chromium made no picture of {url}\n{exit}");
    }

    /// The document of a page, as its scripts have left it two seconds after its load.
    ///
    /// # Panics
    /// When there is none after a minute.
    pub async fn document(url: &str) -> String {
        Self::run(&["--dump-dom", "--virtual-time-budget=2000", url]).await
    }

    async fn run(arguments: &[&str]) -> String {
        let profile = directory();
        let mut command = Command::new("chromium");
        // Its own sandbox needs privileges that containers do not have; the pages are our own.
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).args(arguments);
        let mut process = Process::spawn(command, "chromium", profile.path());
        match process.wait(Duration::from_secs(60)).await {
            Some(exit) => exit.stdout,
            None => panic!("chromium does not end\n{}", process.stderr()),
        }
    }
}
