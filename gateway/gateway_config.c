#include "gateway/gateway_config.h"

#include "base/text.h"
#include "gateway/balancer.h"

#include <stdlib.h>
#include <string.h>

static const char *const client_auth_choices[] = {"required", "optional", "none", NULL};
static const char *const ocsp_choices[] = {"off", "aia", NULL};
static const char *const forward_choices[] = {"none", "proxy-v2", "http", NULL};

#define ALLOW_ROW(n, kind, h)                                                                                          \
    {                                                                                                                  \
        .name = (n), .type = CONFIG_LIST, .offset = offsetof(struct gateway_config_allow, kinds[kind]), .help = (h)    \
    }

static const struct config_option allow_options[] = {
    ALLOW_ROW("cn", AUTHORISE_CN, "Common names of the subject."),
    ALLOW_ROW("ou", AUTHORISE_OU, "Organizational units of the subject."),
    ALLOW_ROW("organization-identifier", AUTHORISE_ORGANIZATION_IDENTIFIER,
              "organizationIdentifier (2.5.4.97) of the subject, as in eIDAS certificates: \"PSDES-BDE-3DFD21\"."),
    ALLOW_ROW("dns", AUTHORISE_DNS,
              "DNS names of the subject alternative name. \"*.example.com\" stands for exactly one label."),
    ALLOW_ROW("uri", AUTHORISE_URI,
              "URIs of the subject alternative name. A path segment \"*\" stands for exactly one segment, as in "
              "\"spiffe://example/ns/*/sa/web\"."),
    ALLOW_ROW("email", AUTHORISE_EMAIL, "Mail addresses of the subject alternative name."),
    ALLOW_ROW("policy", AUTHORISE_POLICY,
              "Certificate policies as OIDs, \"1.2.3\", of which one is valid for the whole path up to the root."),
    ALLOW_ROW("issuer", AUTHORISE_ISSUER, "Issuer names in RFC 2253 form, such as \"CN=Issuing CA,O=Example\"."),
    ALLOW_ROW("issuer-spki-sha256", AUTHORISE_ISSUER_SPKI_SHA256,
              "SHA-256 of the public key of the CA that has issued the certificate, in hex or base64: unlike its name, "
              "nobody else can have it."),
    ALLOW_ROW("serial", AUTHORISE_SERIAL,
              "Serial numbers in hex. Name the issuer too: serials are unique per issuer only."),
    ALLOW_ROW("spki-sha256", AUTHORISE_SPKI_SHA256,
              "SHA-256 of the public key (SubjectPublicKeyInfo) in hex or base64."),
    {.name = "backend",
     .type = CONFIG_LIST,
     .offset = offsetof(struct gateway_config_allow, backend),
     .help = "Where callers let in by this block go, instead of the gateway's backend."},
    {.name = "name",
     .type = CONFIG_TEXT,
     .offset = offsetof(struct gateway_config_allow, name),
     .help = "What the log calls the block. Default: its number within the gateway, from 1."},
    {.name = NULL},
};

static const struct config_schema allow_schema = {
    .name = "allow",
    .repeated = true,
    .size = sizeof(struct gateway_config_allow),
    .options = allow_options,
    .help =
        "Callers to let in: every list given must match one of its values. Blocks are tried in the order of the file; "
        "the first that matches decides about the backend.",
};

static const struct config_option gateway_options[] = {
    {.name = "listen",
     .type = CONFIG_TEXT,
     .offset = offsetof(struct gateway_config_gateway, service.listen),
     .required = true,
     .help = "Where TLS clients connect: HOST:PORT, unix:PATH or systemd:NAME."},
    {.name = "backend",
     .type = CONFIG_LIST,
     .offset = offsetof(struct gateway_config_gateway, service.connect),
     .required = true,
     .help = "The plaintext server, HOST:PORT or unix:PATH; of a list the first that accepts the connection."},
    {.name = "certificate",
     .type = CONFIG_PATH,
     .offset = offsetof(struct gateway_config_gateway, certificate),
     .help = "The gateway's certificate and chain, leaf first. With key, instead of identity."},
    {.name = "key",
     .type = CONFIG_PATH,
     .offset = offsetof(struct gateway_config_gateway, key),
     .help = "The private key of certificate, PEM, without password."},
    {.name = "identity",
     .type = CONFIG_LIST,
     .offset = offsetof(struct gateway_config_gateway, service.identities),
     .help = "The gateway's key is on a token: the name of its identity. Instead of certificate and key."},
    {.name = "client-auth",
     .type = CONFIG_CHOICE,
     .offset = offsetof(struct gateway_config_gateway, client_auth_choice),
     .fallback = "required",
     .choices = client_auth_choices,
     .help = "optional: a client without certificate goes on as unauthenticated, one with a bad one is refused."},
    {.name = "client-trust",
     .type = CONFIG_PATH,
     .offset = offsetof(struct gateway_config_gateway, service.trust),
     .help = "Root certificates of clients, PEM or DER. Needed unless client-auth is none."},
    {.name = "client-crl",
     .type = CONFIG_PATHS,
     .offset = offsetof(struct gateway_config_gateway, service.crls),
     .help = "CRL files, and folders of them, for clients' chains: one for each CA below and including the root."},
    {.name = "client-pinned-certificate",
     .type = CONFIG_PATH,
     .offset = offsetof(struct gateway_config_gateway, service.pinned),
     .help = "For clients without a CA: exactly these certificates are accepted, PEM or DER, instead of client-trust. "
             "Dates, purpose and security policy are checked."},
    {.name = "ocsp",
     .type = CONFIG_CHOICE,
     .offset = offsetof(struct gateway_config_gateway, ocsp_choice),
     .fallback = "off",
     .choices = ocsp_choices,
     .help = "aia: OCSP responders that clients' certificates name are asked, once the chain has led to client-trust."},
    {.name = "ocsp-responder",
     .type = CONFIG_TEXT,
     .offset = offsetof(struct gateway_config_gateway, ocsp_responder),
     .help = "http:// URL of the OCSP responder to ask about all clients' certificates, whatever they name."},
    {.name = "ocsp-hosts",
     .type = CONFIG_LIST,
     .offset = offsetof(struct gateway_config_gateway, ocsp_hosts),
     .help =
         "HOST or HOST:PORT: the only responders asked with ocsp = \"aia\", at whatever address they have. Default: "
         "any, but not on this machine or its link."},
    {.name = "ocsp-nonce",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct gateway_config_gateway, ocsp_nonce),
     .fallback = "false",
     .help = "Send a nonce. A responder may leave it out of its answer, but not answer with another one."},
    {.name = "ocsp-timeout",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct gateway_config_gateway, ocsp_timeout_ms),
     .fallback = "5s",
     .min = 10,
     .max = 300000,
     .help = "For one question to a responder, the connection included."},
    {.name = "staple",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct gateway_config_gateway, staple),
     .fallback = "false",
     .help = "Ask the responder that the gateway's own certificate names, and send its answer to clients who want it."},
    {.name = "staple-file",
     .type = CONFIG_PATH,
     .offset = offsetof(struct gateway_config_gateway, staple_file),
     .help = "OCSP response about the gateway's own certificate to send to clients, DER or PEM; read again when it "
             "changes."},
    {.name = "allow-any-valid",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct gateway_config_gateway, allow_any_valid),
     .fallback = "false",
     .help = "Let in every client whose certificate verifies. Either this or allow blocks must be given."},
    {.name = "forward",
     .type = CONFIG_CHOICE,
     .offset = offsetof(struct gateway_config_gateway, forward),
     .fallback = "none",
     .choices = forward_choices,
     .help = "How the backend learns who called. proxy-v2: a PROXY protocol header with the certificate's data. http: "
             "the connection carries HTTP/1.1 and each request is given Client-Cert headers (RFC 9440)."},
    {.name = "forward-certificate",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct gateway_config_gateway, forward_certificate),
     .fallback = "true",
     .help =
         "With forward = \"proxy-v2\": send the client's certificate (DER), too. false for backends that take short "
         "headers only, such as nginx with its default buffers."},
    {.name = "xfcc",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct gateway_config_gateway, xfcc),
     .fallback = "false",
     .help = "With forward = \"http\": add X-Forwarded-Client-Cert in Envoy's form, too."},
    {.name = "accept-proxy",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct gateway_config_gateway, accept_proxy),
     .fallback = "false",
     .help =
         "Connections come from a load balancer and begin with a PROXY protocol header, version 1 or 2, which names "
         "the client. One without it is closed."},
    {.name = "accept-proxy-from",
     .type = CONFIG_LIST,
     .offset = offsetof(struct gateway_config_gateway, accept_proxy_from),
     .help = "Addresses and networks of the load balancers, such as \"10.0.0.0/8\": connections from elsewhere are "
             "refused. Needed with accept-proxy, unless listen is a UNIX socket."},
    {.name = "session-tickets",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct gateway_config_gateway, service.resumption),
     .fallback = "true",
     .help = "Let clients resume TLS sessions; their whole path is verified anew each time, against today's CRLs."},
    {.name = "ticket-keys",
     .type = CONFIG_PATH,
     .offset = offsetof(struct gateway_config_gateway, service.ticket_keys),
     .help = "File with the keys of session tickets, which replicas of this gateway share: one a line, 80 random bytes "
             "in base64; the first seals, all open. Read again when it changes. Default: keys of its own, changed "
             "hourly."},
    {.name = "alpn",
     .type = CONFIG_LIST,
     .offset = offsetof(struct gateway_config_gateway, alpn),
     .help = "ALPN protocol names to accept, in order of preference. Empty: what clients offer is ignored."},
    SETTINGS_SERVICE_ROWS(struct gateway_config_gateway, "4096"),
    {.name = NULL},
};

static const struct config_schema *const gateway_sections[] = {&allow_schema, NULL};

static const struct config_schema gateway_schema = {
    .name = "gateway",
    .title = "NAME",
    .repeated = true,
    .size = sizeof(struct gateway_config_gateway),
    .options = gateway_options,
    .sections = gateway_sections,
    .help = "A TLS listener that authenticates its clients and hands their bytes to a backend.",
};

static const struct config_schema *const sections[] = {&settings_schema_identity, &gateway_schema,
                                                       &settings_schema_log,      &settings_schema_control,
                                                       &settings_schema_metrics,  NULL};

const struct config_schema gateway_config_schema = {
    .name = "",
    .size = sizeof(struct settings_global),
    .options = settings_global_options,
    .sections = sections,
};

const struct gateway_config_allow *gateway_config_allow(const struct gateway_config_gateway *gateway, size_t block)
{
    return gateway->service.section->sections[block].values;
}

static void check_own_key(const struct gateway_config_gateway *gateway, struct config_errors *errors)
{
    const struct config_section *section = gateway->service.section;
    size_t identities = gateway->service.identities.n;

    if (identities > 1)
        config_errors_add(errors, config_line(section, "identity"), "a gateway has one identity");
    if (identities > 0 && (gateway->certificate != NULL || gateway->key != NULL))
        config_errors_add(errors, config_line(section, gateway->key != NULL ? "key" : "certificate"),
                          "give either identity, or certificate and key");
    else if (identities == 0 && gateway->certificate == NULL)
        config_errors_add(errors, section->line, "certificate is missing (or identity, when the key is on a token)");
    else if (identities == 0 && gateway->key == NULL)
        config_errors_add(errors, section->line, "key is missing (or identity, when the key is on a token)");
}

static void check_client_auth(struct gateway_config_gateway *gateway, struct config_errors *errors)
{
    static const enum context_client_auth modes[] = {CONTEXT_CLIENT_AUTH_REQUIRED, CONTEXT_CLIENT_AUTH_OPTIONAL,
                                                     CONTEXT_CLIENT_AUTH_NONE};
    const struct config_section *section = gateway->service.section;
    bool blocks = section->n_sections > 0;

    gateway->client_auth = modes[gateway->client_auth_choice];
    if (gateway->client_auth == CONTEXT_CLIENT_AUTH_NONE) {
        if (blocks)
            config_errors_add(errors, section->sections[0].line, "allow has no effect with client-auth = \"none\"");
        if (gateway->allow_any_valid)
            config_errors_add(errors, config_line(section, "allow-any-valid"),
                              "allow-any-valid has no effect with client-auth = \"none\"");
        return;
    }
    if (gateway->service.trust == NULL && gateway->service.pinned == NULL)
        config_errors_add(errors, section->line,
                          "client-trust is missing (or client-pinned-certificate): whose clients are to be accepted?");
    if (!blocks && !gateway->allow_any_valid)
        config_errors_add(errors, section->line,
                          "who may connect? give allow blocks, or allow-any-valid = true for every valid certificate");
    if (blocks && gateway->allow_any_valid)
        config_errors_add(errors, config_line(section, "allow-any-valid"),
                          "allow-any-valid = true makes the allow blocks meaningless; give one of them");
}

static void check_allow_route(const struct config_section *section, struct config_errors *errors)
{
    const struct gateway_config_allow *allow = section->values;

    for (size_t i = 0; i < allow->backend.n; i++) {
        struct address address;
        struct error err = ERROR_INIT;

        if (address_parse(allow->backend.items[i], ADDRESS_CONNECT, &address, &err) != ERROR_NONE)
            config_errors_add(errors, config_line(section, "backend"), "backend: %s", err.text);
    }
    if (allow->name != NULL && (allow->name[0] == '\0' || strlen(allow->name) > AUTHORISE_RULE_NAME_MAX))
        config_errors_add(errors, config_line(section, "name"), "name is empty or longer than %d bytes",
                          AUTHORISE_RULE_NAME_MAX);
}

static void check_allow(const struct config_section *section, struct config_errors *errors)
{
    const struct gateway_config_allow *allow = section->values;
    size_t n = 0;

    for (enum authorise_kind kind = 0; kind < AUTHORISE_KINDS; kind++) {
        const char *name = authorise_kind_name(kind);

        n += allow->kinds[kind].n;
        for (size_t i = 0; i < allow->kinds[kind].n; i++) {
            struct error err = ERROR_INIT;

            if (authorise_check_value(kind, allow->kinds[kind].items[i], &err) != ERROR_NONE)
                config_errors_add(errors, config_line(section, name), "%s: %s", name, err.text);
        }
    }
    if (n == 0)
        config_errors_add(errors, section->line, "an allow block without a value matches nobody");
    check_allow_route(section, errors);
}

static void check_forward(const struct gateway_config_gateway *gateway, struct config_errors *errors)
{
    const struct config_section *section = gateway->service.section;

    if (gateway->forward != GATEWAY_CONFIG_FORWARD_HTTP && gateway->xfcc)
        config_errors_add(errors, config_line(section, "xfcc"), "xfcc = true needs forward = \"http\"");
    for (size_t i = 0; gateway->forward == GATEWAY_CONFIG_FORWARD_HTTP && i < gateway->alpn.n; i++) {
        if (strcmp(gateway->alpn.items[i], "http/1.1") != 0)
            config_errors_add(errors, config_line(section, "alpn"),
                              "forward = \"http\" speaks HTTP/1.1 only: leave alpn out, or name \"http/1.1\" alone");
    }
}

/* One of the options that make sense only when responders are asked. */
static void check_ocsp_option(const struct config_section *section, const char *name, const char *needs,
                              struct config_errors *errors)
{
    if (config_given(section, name))
        config_errors_add(errors, config_line(section, name), "%s has no effect without %s", name, needs);
}

static void check_ocsp(struct gateway_config_gateway *gateway, struct config_errors *errors)
{
    const struct config_section *section = gateway->service.section;
    const char *url = gateway->ocsp_responder;
    bool aia = gateway->ocsp_choice != 0;

    gateway->service.asks_ocsp = aia || url != NULL;
    if (aia && url != NULL)
        config_errors_add(errors, config_line(section, "ocsp-responder"),
                          "give either ocsp = \"aia\" or ocsp-responder: asked is the one or the other");
    if (url != NULL && text_after(url, "http://") == NULL)
        config_errors_add(errors, config_line(section, "ocsp-responder"),
                          "ocsp-responder must begin with http://: its answers are signed");
    if (!aia)
        check_ocsp_option(section, "ocsp-hosts", "ocsp = \"aia\"", errors);
    if (!gateway->service.asks_ocsp) {
        check_ocsp_option(section, "ocsp-nonce", "ocsp = \"aia\" or ocsp-responder", errors);
        if (config_given(section, "revocation-order") && gateway->service.revocation_order != CHAIN_ORDER_CRL)
            config_errors_add(
                errors, config_line(section, "revocation-order"),
                "revocation-order names ocsp, but nobody is asked: give ocsp = \"aia\" or ocsp-responder");
        return;
    }
    if (gateway->client_auth == CONTEXT_CLIENT_AUTH_NONE || gateway->service.pinned != NULL)
        config_errors_add(errors, config_line(section, aia ? "ocsp" : "ocsp-responder"),
                          "OCSP has no effect with client-auth = \"none\" or pinned certificates");
    else if (gateway->service.revocation_order == CHAIN_ORDER_CRL)
        config_errors_add(errors, config_line(section, "revocation-order"),
                          "revocation-order leaves ocsp out, so nobody would be asked");
}

static void check_ticket_keys(const struct gateway_config_gateway *gateway, struct config_errors *errors)
{
    if (gateway->service.ticket_keys != NULL && !gateway->service.resumption)
        config_errors_add(errors, config_line(gateway->service.section, "ticket-keys"),
                          "ticket-keys has no effect with session-tickets = false");
}

static void check_staple(const struct gateway_config_gateway *gateway, struct config_errors *errors)
{
    if (gateway->staple && gateway->staple_file != NULL)
        config_errors_add(errors, config_line(gateway->service.section, "staple-file"),
                          "give either staple = true, which asks the responder, or staple-file");
}

void gateway_config_check(const struct config *config, struct config_errors *errors, struct settings *ret)
{
    settings_collect(config, "gateway", errors, ret);
    for (size_t i = 0; i < ret->n_services; i++) {
        struct gateway_config_gateway *gateway = (struct gateway_config_gateway *)ret->services[i];
        const struct config_section *section = gateway->service.section;
        const char *const files[] = {gateway->certificate, gateway->key, gateway->service.pinned, gateway->staple_file,
                                     gateway->service.ticket_keys};

        check_own_key(gateway, errors);
        check_client_auth(gateway, errors);
        check_forward(gateway, errors);
        for (size_t k = 0; k < section->n_sections; k++)
            check_allow(&section->sections[k], errors);
        settings_check_sources(&gateway->service, "client-trust", "client-crl", errors);
        check_ocsp(gateway, errors);
        check_staple(gateway, errors);
        check_ticket_keys(gateway, errors);
        balancer_check(gateway, errors);
        settings_check_fetches(&gateway->service, errors);
        if (gateway->client_auth != CONTEXT_CLIENT_AUTH_NONE)
            settings_decide_revocation(ret, &gateway->service);
        else
            gateway->service.revocation = CHAIN_REVOCATION_OFF;
        settings_check_pin_files(ret, &gateway->service, files, sizeof(files) / sizeof(files[0]), errors);
    }
}
