#![no_main]
#![allow(dead_code)] // each target runs one of the shared checks

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::sse(data));
