//! What the compiler says about tasks that are none. The texts are those of the Rust version in `Cargo.toml`; with
//! `TRYBUILD=overwrite` they are written anew.
//!
//! What the attribute itself says is also pinned in its own crate, and that the rest does not compile at all in the
//! documentation of `taskiq_flow::task`: both run every time.

#[test]
#[ignore = "builds all dependencies a second time, which takes minutes when it is cold: run it with `--ignored`"]
fn the_compiler_says_what_is_wrong() {
    trybuild::TestCases::new().compile_fail("tests/task_mistakes/*.rs");
}
