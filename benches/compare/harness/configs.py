"""Every configuration of the comparison, as text. Doing nothing means: no access log, no retries to speak of, one worker, keep-alive
to client and app without a cap on requests, so that no peer pays for connections that another one keeps."""

# 120 bytes, what an API answers when asked for one thing.
BODY = (
    '{"id":4711,"name":"Ada Lovelace","email":"ada@example.org","roles":["admin","author"],'
    '"active":true,"score":98.25,"v":1}'
)
MANY = 1_000_000_000

NGINX = """\
daemon off;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_timeout 1h;
    keepalive_requests {many};
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{rest}}}
"""

NGINX_APP = """\
    server {{
        listen 127.0.0.1:{port};
        location / {{
            default_type application/json;
            return 200 '{body}';
        }}
    }}
"""

NGINX_PROXY = """\
    upstream app {{
        server 127.0.0.1:{app};
        keepalive 128;
        keepalive_requests {many};
        keepalive_timeout 1h;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
"""


# 1 KiB: what a store is filled with.
ENTRY = '{"items":[' + ",".join([BODY] * 8) + '],"next":"' + "n" * 35 + '"}'
MAX_AGE = 86_400

NGINX_CACHEABLE_APP = """\
    server {{
        listen 127.0.0.1:{port};
        default_type application/json;
        location = /asked {{ stub_status; }}
        location / {{
            add_header Cache-Control max-age={max_age};
            return 200 '{body}';
        }}
        location /entries/ {{
            add_header Cache-Control max-age={max_age};
            return 200 '{entry}';
        }}
    }}
"""

NGINX_CACHE = """\
    proxy_cache_path {files} levels=1:2 keys_zone=bench:64m max_size=2g inactive=1d use_temp_path=off;
{open_files}\
    upstream app {{
        server 127.0.0.1:{app};
        keepalive 128;
        keepalive_requests {many};
        keepalive_timeout 1h;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_cache bench;
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
"""

# Spares nginx opening the entry's file for every hit.
NGINX_OPEN_FILES = """\
    open_file_cache max=20000 inactive=1d;
    open_file_cache_valid 1d;
"""


def nginx_app(port, _app):
    return NGINX.format(many=MANY, rest=NGINX_APP.format(port=port, body=BODY))


def nginx_proxy(port, app):
    return NGINX.format(many=MANY, rest=NGINX_PROXY.format(port=port, app=app, many=MANY))


def nginx_cacheable_app(port, _app):
    return NGINX.format(many=MANY, rest=NGINX_CACHEABLE_APP.format(port=port, body=BODY, entry=ENTRY, max_age=MAX_AGE))


def nginx_cache(port, app, files, open_files):
    keeps = NGINX_OPEN_FILES if open_files else ""
    rest = NGINX_CACHE.format(port=port, app=app, files=files, open_files=keeps, many=MANY)
    return "worker_rlimit_nofile 30000;\n" + NGINX.format(many=MANY, rest=rest)


HAPROXY = """\
global
    nbthread 1
    maxconn 1024
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
    http-reuse always
frontend bench
    bind 127.0.0.1:{port}
    default_backend app
backend app
    server app 127.0.0.1:{app}
"""


def haproxy(port, app):
    return HAPROXY.format(port=port, app=app)


ENVOY = """\
static_resources:
  listeners:
    - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: bench
                codec_type: HTTP1
{tracing}\
                http_filters:
{filters}\
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  virtual_hosts:
                    - name: bench
                      domains: ["*"]
                      routes:
                        - match: {{ prefix: "/" }}
                          route: {{ cluster: app }}
  clusters:
    - name: app
      type: STATIC
      connect_timeout: 5s
      load_assignment:
        cluster_name: app
        endpoints:
          - lb_endpoints:
              - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {app} }} }} }}
{sink}{runtime}"""

ENVOY_TRACING = """\
                tracing:
                  random_sampling: { value: 100 }
                  provider:
                    name: envoy.tracers.opentelemetry
                    typed_config:
                      "@type": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig
                      service_name: SERVICE
                      grpc_service:
                        envoy_grpc: { cluster_name: sink }
                        timeout: 5s
"""

ENVOY_SINK = """\
    - name: sink
      type: STATIC
      connect_timeout: 5s
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: { http2_protocol_options: {} }
      load_assignment:
        cluster_name: sink
        endpoints:
          - lb_endpoints:
              - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: PORT } } }
"""

# Envoy exports after every fifth span unless told otherwise.
ENVOY_BATCH = """\
layered_runtime:
  layers:
    - name: bench
      static_layer:
        tracing: { opentelemetry: { min_flush_spans: BATCH } }
"""


def envoy(port, app, service=None, sink=None, batch=None, filters=""):
    """Traces every request when it has a service name; `batch` is the number of spans an export waits for."""
    return ENVOY.format(
        port=port,
        app=app,
        filters=filters,
        tracing=ENVOY_TRACING.replace("SERVICE", service) if service else "",
        sink=ENVOY_SINK.replace("PORT", str(sink)) if service else "",
        runtime=ENVOY_BATCH.replace("BATCH", str(batch)) if batch else "",
    )


PILLION = """\
service: {service}
workers: 1
admin: {{ listen: "127.0.0.1:{admin}" }}
inbound: {{ listen: "127.0.0.1:{port}", app: "http://127.0.0.1:{app}" }}
{extra}"""


def pillion(service, port, app, admin, extra):
    return PILLION.format(service=service, port=port, app=app, admin=admin, extra=extra)


def pillion_otlp(protocol, port):
    return f'telemetry: {{ otlp: {{ endpoint: "http://127.0.0.1:{port}", protocol: {protocol} }} }}\n'


PILLION_CACHE = "filters: { cache: { enabled: true, max_size: 512MiB } }\n"

# 10,000 paths in an order that no cache can foresee and every run repeats; made once, since making one takes wrk longer
# than asking for it.
MANY_PATHS = """\
local requests = {}
function init()
    math.randomseed(1)
    for number = 0, COUNT - 1 do
        requests[number] = wrk.format(nil, "PREFIX" .. number)
    end
end
function request()
    return requests[math.random(0, COUNT - 1)]
end
"""

# Every connection waits as long as this before each request, in milliseconds.
PACE = """\
math.randomseed(1)
function delay()
    return math.random(1, 2 * MEAN - 1)
end
"""


def many_paths(prefix, count):
    return MANY_PATHS.replace("PREFIX", prefix).replace("COUNT", str(count))


def pace(mean):
    return PACE.replace("MEAN", str(mean))


# What a hit or a miss would write to its log; there is no word for all.
VARNISH_LOGS_NOTHING = ",".join(
    "-" + tag
    for tag in """
    SessOpen SessClose ReqStart ReqMethod ReqURL ReqProtocol ReqHeader ReqUnset ReqAcct RespProtocol RespStatus RespReason RespHeader
    RespUnset BereqMethod BereqURL BereqProtocol BereqHeader BereqUnset BereqAcct BerespProtocol BerespStatus BerespReason
    BerespHeader BerespUnset BackendStart BackendOpen BackendClose BackendReuse VCL_call VCL_return VCL_use Timestamp Hit Begin End
    Link Storage TTL Fetch_Body Length Filters
    """.split()
)


# Of files, with their lengths.
NGINX_FILES_APP = """\
    types {{
        application/json json;
        text/html html;
    }}
    server {{
        listen 127.0.0.1:{port};
        root {folder};
        sendfile on;
        open_file_cache max=100;
    }}
"""

NGINX_GZIP = """\
    gzip on;
    gzip_comp_level {level};
    gzip_min_length 0;
    gzip_proxied any;
    gzip_types application/json;
    proxy_max_temp_file_size 0;
"""

# zlib's window and memory as nginx has them: with Envoy's own (12 and 5) a level would not mean the same.
ENVOY_COMPRESSOR = """\
                  - name: compressor_{coding}
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor
                      response_direction_config:
                        common_config: {{ content_type: [application/json, text/html] }}
                      compressor_library:
                        name: {coding}
                        typed_config:
                          "@type": type.googleapis.com/envoy.extensions.compression.{kind}.compressor.v3.{message}
                          {options}
"""
ENVOY_LIBRARIES = {
    "gzip": ("gzip", "Gzip", "compression_level: COMPRESSION_LEVEL_{level}, window_bits: 15, memory_level: 8"),
    "br": ("brotli", "Brotli", "quality: {level}, window_bits: 18"),
    "zstd": ("zstd", "Zstd", "compression_level: {level}"),
}


def nginx_files(port, _app, folder):
    return NGINX.format(many=MANY, rest=NGINX_FILES_APP.format(port=port, folder=folder))


def nginx_gzip(port, app, levels):
    rest = NGINX_GZIP.format(level=levels["gzip"]) + NGINX_PROXY.format(port=port, app=app, many=MANY)
    return NGINX.format(many=MANY, rest=rest)


def envoy_compressors(levels):
    filters = []
    for coding, level in levels.items():
        kind, message, options = ENVOY_LIBRARIES[coding]
        given = options.format(level=level).split(", ")
        lines = ("\n" + " " * 26).join(given)
        filters.append(ENVOY_COMPRESSOR.format(coding=coding, kind=kind, message=message, options=lines))
    return "".join(filters)


def pillion_compression(levels):
    given = ", ".join(f"{coding}: {level}" for coding, level in levels.items())
    return f"chain: [compression]\nfilters: {{ compression: {{ min_size: 0, cpu_limit: 1, levels: {{ {given} }} }} }}\n"


def pillion_resilience(app):
    """Each part alone, and all of them. The two endpoints are the same app under two names."""
    deadline = "deadline: { follow_trace: false }"
    breaker = "circuit_breaker: { enabled: true, slow: { after: 1s, ratio: 0.5 } }"
    retry = "retry: { attempts: 3, on: [connect, refused, reset, timeout, 5xx], per_try_timeout: 2s }"
    hedged = retry[:-2] + ", hedge: { enabled: true } }"
    timeouts = "timeouts: { exchange: 5s }\n"
    endpoints = f'endpoints: ["http://127.0.0.1:{app}", "http://localhost:{app}"]'

    def upstream(algorithm):
        routes = 'routes: [{ match: { path: "/*" }, upstream: group }]\n'
        return f"upstreams: {{ group: {{ {endpoints}, balance: {{ algorithm: {algorithm} }} }} }}\n" + routes

    def chain(names, filters, rest=""):
        return f"chain: [{names}]\nfilters: {{ {filters} }}\n" + rest

    return {
        "deadline": chain("deadline", deadline, timeouts),
        "circuit-breaker": chain("circuit_breaker", breaker),
        "retry": chain("retry", retry),
        "retry-hedge": chain("retry", hedged),
        "least-requests": "chain: []\n" + upstream("least_requests"),
        "ewma": "chain: []\n" + upstream("ewma"),
        "all": chain(
            "deadline, circuit_breaker, retry", ", ".join([deadline, breaker, hedged]), timeouts + upstream("ewma")
        ),
    }
