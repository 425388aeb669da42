//! The gRPC server: every service with health and reflection, behind the limits of the settings.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::util::MapRequestLayer;

use super::NodeError;
use super::connections::{self, Bounds};
use super::listener::Listener;
use crate::api::access::Access;
use crate::api::access::certificate::Peer;
use crate::api::access::layer::AccessLayer;
use crate::api::transport::{AtOnce, Guard, InFlight, TransportLayer};
use crate::api::{self, Api};
use crate::config::{Config, Reflection};

/// The largest message that a health check may be, which everyone may send: it has the name of a service.
const MAX_HEALTH_BYTES: usize = 1_024;

/// The gRPC server, as a future that ends when the service stops. What `cut` cuts is every connection.
pub(super) async fn grpc(
    config: &Config,
    api: Api,
    access: Arc<Access>,
    listener: Listener,
    cut: CancellationToken,
    stopping: watch::Receiver<bool>,
) -> Result<(Arc<Guard>, impl Future<Output = Result<(), tonic::transport::Error>> + Send + 'static), NodeError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let names = api::service_names(&api);
    for service in &names {
        reporter.set_service_status(*service, tonic_health::ServingStatus::Serving).await;
    }
    let mut routes = api::routes(&api).add_service(health.max_decoding_message_size(MAX_HEALTH_BYTES));
    if reflects(config) {
        // The descriptors describe the simulation too, which is listed only where it is served.
        let reflection = || {
            let builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(crate::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(crate::pb::ERROR_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            let others = [
                tonic_health::pb::health_server::SERVICE_NAME,
                tonic_reflection::pb::v1::server_reflection_server::SERVICE_NAME,
                tonic_reflection::pb::v1alpha::server_reflection_server::SERVICE_NAME,
            ];
            names.iter().chain(&others).fold(builder, |builder, name| builder.with_service_name(*name))
        };
        routes = routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?);
    }
    let limits = &config.limits;
    let ms = Duration::from_millis;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let or_else = |setting: usize, by_machine: usize| if setting > 0 { setting } else { by_machine.max(1) };
    // Of two processors one is free at any time for whoever asks little.
    let half = (processors / 2).max(1);
    let in_flight = InFlight {
        longest: ms(limits.request_timeout_ms),
        calls: limits.max_calls_in_flight,
        calls_per_principal: limits.max_calls_in_flight_per_principal,
        reads: AtOnce { most: or_else(limits.reads_at_once, 2 * processors), beside_others: half },
        changes: AtOnce { most: limits.changes_at_once, beside_others: limits.changes_at_once },
        batches: AtOnce { most: or_else(limits.batches_at_once, half), beside_others: half },
        receiving_bytes: limits.max_receiving_bytes,
        unread: ms(limits.unread_timeout_ms),
    };
    let bounds = Bounds {
        all: limits.max_connections,
        per_address: limits.max_connections_per_address,
        strangers: limits.max_strangers,
        strangers_per_address: limits.max_strangers_per_address,
        preface: ms(limits.handshake_timeout_ms),
        first_call: ms(limits.first_call_timeout_ms),
    };
    let guard = Guard::new(in_flight, api.metrics.clone());
    let server = tonic::transport::Server::builder()
        .layer(MapRequestLayer::new(connections::introduce::<Peer>))
        .layer(TransportLayer { guard: guard.clone() })
        .layer(AccessLayer(access.clone()))
        .max_concurrent_streams(limits.max_streams_per_connection)
        .http2_max_pending_accept_reset_streams(Some(limits.max_pending_accept_reset_streams))
        .http2_max_local_error_reset_streams(Some(limits.max_local_error_reset_streams))
        .http2_max_header_list_size(limits.max_header_bytes)
        .http2_keepalive_interval(Some(ms(limits.keepalive_interval_ms)))
        .http2_keepalive_timeout(Some(ms(limits.keepalive_timeout_ms)))
        .max_connection_age(ms(limits.max_connection_age_ms))
        .max_connection_age_grace(ms(limits.max_connection_age_grace_ms))
        .add_routes(routes);
    let incoming = listener.connections(api.metrics.clone(), access);
    let incoming = connections::limited(incoming, bounds, api.metrics.clone(), cut);
    let served = server.serve_with_incoming_shutdown(incoming, async move {
        super::stopped(stopping).await;
        for service in names {
            reporter.set_service_status(service, tonic_health::ServingStatus::NotServing).await;
        }
    });
    Ok((guard, served))
}

/// Whether callers may ask which calls there are.
fn reflects(config: &Config) -> bool {
    match config.reflection {
        Reflection::Auto => config.listen.is_local(),
        Reflection::On => true,
        Reflection::Off => false,
    }
}
