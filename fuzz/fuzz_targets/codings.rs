//! Bodies of strangers in the codings that are read: bounded, or an error; and what is coded comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pillion_filters::fuzzing::decode;

fuzz_target!(|data: &[u8]| {
    if let [which, body @ ..] = data {
        decode(*which, body);
    }
});
