#![no_main]

#[path = "../config_check.rs"]
mod config_check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| config_check::config(data));
