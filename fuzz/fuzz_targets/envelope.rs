#![no_main]
#![allow(dead_code)] // the gateway uses the rest

#[path = "../../gateway/src/cache/envelope.rs"]
mod envelope;
#[path = "../envelope_check.rs"]
mod envelope_check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| envelope_check::envelope(data));
