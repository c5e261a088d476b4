//! `pillion demo`: an app, a sidecar in front of it and the admin API, all on loopback with free ports.

mod app;

use std::net::SocketAddr;

use pillion_filters::Registry;

use crate::runtime::{self, Options, Signals};
use crate::{config, log};

/// Command line of `demo`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Where the sidecar listens. Default: a free port.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where the admin API listens. Default: a free port.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// A collector for the spans, such as `http://127.0.0.1:4318`. Default: none.
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
}

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(arguments: &Arguments, registry: Registry) -> Result<(), String> {
    let app = start_app().map_err(|error| format!("cannot start the demo's app: {error}"))?;
    let text = configuration(arguments, app);
    let names: Vec<&str> = registry.entries().iter().map(|entry| entry.name).collect();
    let loaded = config::load_str("(demo)", &text, &names).map_err(|errors| errors.render())?;
    log::start(loaded.config.log);
    let options = Options {
        registry,
        files: Vec::new(),
    };
    let signals = Signals::listen().map_err(|error| format!("cannot listen to signals: {error}"))?;
    let running = runtime::start(loaded, options).map_err(|error| error.to_string())?;
    if let (Some(inbound), Some(outbound), Some(admin)) = (running.inbound, running.outbound, running.admin) {
        eprintln!("{}", what_to_try(inbound, outbound, admin, app));
    }
    running.wait(signals, None);
    Ok(())
}

/// The app runs on a thread of its own, as a process of its own would.
fn start_app() -> std::io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("demo-app".to_owned()).spawn(move || {
        runtime.block_on(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => app::serve(listener).await,
                Err(error) => tracing::error!(%error, "the demo's app is off"),
            }
        });
    })?;
    Ok(address)
}

fn configuration(arguments: &Arguments, app: SocketAddr) -> String {
    let otlp = arguments.otlp.as_ref().map_or(String::new(), |endpoint| {
        format!("telemetry: {{ otlp: {{ endpoint: \"{endpoint}\" }} }}\n")
    });
    format!(
        "service: demo\n\
         workers: 1\n\
         admin: {{ listen: \"{}\" }}\n\
         inbound: {{ listen: \"{}\", app: \"http://{app}\" }}\n\
         outbound: {{ listen: 127.0.0.1:0 }}\n\
         filters: {{ tracing: {{ response_header: x-trace-id }} }}\n\
         routes:\n\
         \x20 - match: {{ path: /fast }}\n\
         \x20 - match: {{ path: /slow }}\n\
         \x20 - match: {{ path: /fail }}\n\
         \x20 - match: {{ path: /flaky }}\n\
         \x20 - match: {{ path: /cacheable }}\n\
         \x20 - match: {{ path: /large }}\n\
         \x20 - match: {{ path: /events }}\n\
         \x20 - match: {{ path: /echo, method: POST }}\n\
         {otlp}",
        arguments.admin, arguments.listen,
    )
}

fn what_to_try(inbound: SocketAddr, outbound: SocketAddr, admin: SocketAddr, app: SocketAddr) -> String {
    format!(
        "\nThe demo runs: app {app}, sidecar {inbound}, admin API {admin}\n\n\
         Open http://{admin}/ in a browser: the page shows all that passes.\n\n\
         Try, in another terminal:\n\
         \x20 curl -i  http://{inbound}/fast                          # the app echoes the traceparent it got\n\
         \x20 curl -i --http2-prior-knowledge http://{inbound}/fast   # the same port speaks HTTP/2\n\
         \x20 curl -i  http://{inbound}/fail?status=503               # an error of the app's own\n\
         \x20 curl -N  http://{inbound}/events                        # server-sent events, as they come\n\
         \x20 curl -i -x http://{outbound} http://{app}/fast         # outbound, as an app with HTTP_PROXY\n\
         \x20 curl -s  http://{admin}/metrics | grep ^http_           # rate, errors, duration\n\
         \x20 pillion top --admin http://{admin}               # the same, live in a terminal\n\
         \x20 curl -s  http://{admin}/config                          # the effective configuration, with origins\n\n\
         The access log is on standard output, one line a request, with its trace id. Stop with Ctrl-C.\n"
    )
}
