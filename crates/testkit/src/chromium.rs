//! The real browser.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::command::directory;
use crate::port::free_port;
use crate::process::Process;
use crate::wait::until;
use crate::websocket::{Incoming, Socket};

/// How long a start may take, and an answer of a page.
const LIMIT: Duration = Duration::from_secs(30);

/// Debian's Chromium without a window, showing one page. It is killed when this is dropped.
#[derive(Debug)]
pub struct Chromium {
    page: Socket,
    number: u64,
    _process: Process,
    _profile: TempDir,
}

impl Chromium {
    /// Opens a page and waits until it is loaded.
    ///
    /// # Panics
    /// When there is no browser, or no page.
    pub async fn open(url: &str) -> Self {
        let (profile, port) = (directory(), free_port());
        let mut command = Command::new("chromium");
        // Its own sandbox needs privileges that containers do not have; the pages are our own.
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]);
        command.args(["--window-size=1280,900", &format!("--remote-debugging-port={port}")]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        let mut process = Process::spawn(command, "chromium", profile.path());
        let devtools = Client::new(format!("http://127.0.0.1:{port}"));
        let address = until(LIMIT, async || {
            if let Some(exit) = process.ended() {
                panic!("chromium ended with {:?}: {}", exit.code, exit.stderr);
            }
            let pages = devtools.try_get("/json/list").await?.json();
            pages.as_array()?.iter().find(|page| page["type"] == "page")?["webSocketDebuggerUrl"]
                .as_str()
                .map(str::to_owned)
        });
        let Some(address) = address.await else { panic!("chromium shows no page\n{}", process.stderr()) };
        let page = Socket::connect(&address, &[]).await;
        let page =
            page.unwrap_or_else(|reply| panic!("chromium answered {}: {}", reply.status, reply.text()));
        let mut this = Self { page, number: 0, _process: process, _profile: profile };
        this.call("Page.navigate", json!({ "url": url })).await;
        this.expect("document.readyState === 'complete' && location.href !== 'about:blank'").await;
        this
    }

    /// The value of a JavaScript expression in the page; of a promise, what it comes to.
    ///
    /// # Panics
    /// When the expression throws.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", parameters).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until a JavaScript expression is true.
    ///
    /// # Panics
    /// When it is not after 30 seconds; the message shows the page's text.
    pub async fn expect(&mut self, expression: &str) {
        let wanted = format!("!!({expression})");
        let held = until(LIMIT, async || (self.evaluate(&wanted).await == true).then_some(())).await;
        if held.is_none() {
            let text = self.evaluate("document.body ? document.body.innerText : ''").await;
            panic!("the page never came to {expression}; it says:\n{}", text.as_str().unwrap_or_default());
        }
    }

    /// Writes a picture of the page, as PNG.
    ///
    /// # Panics
    /// When there is none.
    pub async fn screenshot(&mut self, path: &Path) {
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let bytes = STANDARD.decode(answer["data"].as_str().unwrap_or_default());
        let written = std::fs::write(path, bytes.unwrap_or_else(|error| panic!("no picture: {error}")));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// One command of the DevTools protocol, and its answer; events are passed over.
    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        self.page.send(&json!({ "id": self.number, "method": method, "params": parameters })).await;
        loop {
            match self.page.next(LIMIT).await {
                Some(Incoming::Message(answer)) if answer["id"] == self.number => {
                    assert!(answer.get("error").is_none(), "{method}: {answer}");
                    return answer["result"].clone();
                }
                Some(Incoming::Message(_)) => {}
                other => panic!("{method}: {other:?}"),
            }
        }
    }
}
