#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| taskiq_flow_fuzz::run("issuer", data));
