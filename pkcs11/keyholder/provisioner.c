#include "pkcs11/keyholder/provisioner.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "pkcs11/certificate.h"
#include "pkcs11/generate.h"
#include "pkcs11/initialise.h"
#include "pkcs11/keyholder/audit.h"
#include "pkcs11/keyholder/client.h"
#include "pkcs11/keyholder/control.h"
#include "pkcs11/keyholder/packet.h"
#include "pkcs11/keyholder/protocol.h"
#include "pkcs11/keyholder/purpose_enrol.h"
#include "pkcs11/pin.h"
#include "pkcs11/provision.h"
#include "pkcs11/token_internal.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/x509.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N_KEYS 2
#define CREDIT 8
#define CERTIFICATES_MAX 16 /* in one import */

struct provisioner {
    const struct keyholder_config *config;
    struct pin_source *pin;
    struct token *token;
    struct token_key *keys[N_KEYS];
    unsigned char *spki; /* of the new key; OpenSSL's memory */
    size_t spki_length;
    int link; /* -1: none */
    struct buffer out;
    uint8_t *data; /* KEYHOLDER_MESSAGE_MAX */
};

/* A job's parts. */
struct job {
    const cJSON *in;
    int descriptor; /* that came along, owned by the loop; -1: none */
    cJSON *out;
};

static const char *text_of(const struct job *job, const char *name)
{
    return json_text(job->in, name);
}

static void put(const struct job *job, const char *name, const char *value)
{
    (void)cJSON_AddStringToObject(job->out, name, value);
}

static result put_hex(const struct job *job, const char *name, const uint8_t *bytes, size_t length, struct error *err)
{
    char *hex = malloc(2 * length + 1);

    if (hex == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    put(job, name, text_hex(bytes, length, '\0', hex, 2 * length + 1));
    free(hex);
    return ERROR_NONE;
}

/* The token is opened with the first job that wants it, so that its failure is that job's answer. */
static result open_token(struct provisioner *self, struct error *err)
{
    const struct keyholder_config *config = self->config;
    struct token_config token = {.module = config->module,
                                 .pin = self->pin,
                                 .state_directory = config->state_directory,
                                 .writable = true,
                                 .unlock_command = config->unlock_command};

    if (self->token != NULL)
        return ERROR_NONE;
    if (config->n_identities == 0)
        return error_set(err, ERROR_CONFIG, "no token is named");
    token.uri = config->identities[0].uri;
    return token_open(&token, &self->token, err);
}

/* {"type":"login"}: the PIN is asked for and tried here, before anything is begun. */
static result login(struct provisioner *self, const struct job *job, struct error *err)
{
    struct session session;
    struct token_info info;
    result r = provision_begin(self->token, &session, err);

    if (r != ERROR_NONE)
        return r;
    token_release(self->token, &session, ERROR_NONE, err);
    r = token_info(self->token, &info, err);
    if (r == ERROR_NONE) {
        put(job, "uri", info.uri);
        put(job, "label", info.label);
    }
    return r;
}

static bool get_id(const struct job *job, uint8_t *out, size_t size, size_t *ret_length)
{
    const char *hex = text_of(job, "id");

    *ret_length = 0;
    return hex == NULL || text_parse_hex(hex, out, size, ret_length);
}

/* {"type":"generate","algorithm","label","successor","id"} */
static result generate(struct provisioner *self, const struct job *job, struct error *err)
{
    uint8_t id[GENERATE_ID_MAX];
    struct generate_request request = {.algorithm = text_of(job, "algorithm"),
                                       .label = text_of(job, "label"),
                                       .successor = json_true(job->in, "successor")};
    struct token_key_info info;
    int length;
    result r;

    if (request.algorithm == NULL || request.label == NULL || !get_id(job, id, sizeof(id), &request.id_length))
        return error_set(err, ERROR_PROTOCOL, "generate without an algorithm or a label, or with an id that is none");
    if (self->keys[PROVISIONER_KEY_NEW] != NULL)
        return error_set(err, ERROR_PROTOCOL, "a key was made already");
    request.id = request.id_length > 0 ? id : NULL;
    r = generate_key_pair(self->token, &request, &self->keys[PROVISIONER_KEY_NEW], err);
    if (r != ERROR_NONE)
        return r;
    length = i2d_PUBKEY(generate_public(self->keys[PROVISIONER_KEY_NEW]), &self->spki);
    if (length <= 0)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot encode the new public key");
    self->spki_length = (size_t)length;
    token_key_info(self->keys[PROVISIONER_KEY_NEW], &info);
    put(job, "uri", info.uri);
    return put_hex(job, "public-key", self->spki, self->spki_length, err);
}

/* {"type":"replace","uri"}: the key that the new one replaces, and its certificate. */
static result replace(struct provisioner *self, const struct job *job, struct error *err)
{
    const char *uri = text_of(job, "uri");
    struct token_key *key = NULL;
    struct token_key_info info;
    unsigned char *der = NULL;
    int length;
    result r;

    if (uri == NULL || self->keys[PROVISIONER_KEY_OLD] != NULL)
        return error_set(err, ERROR_PROTOCOL, "replace without a key, or a second one");
    r = token_find_key(self->token, uri, NULL, &key, err);
    if (r != ERROR_NONE)
        return r;
    self->keys[PROVISIONER_KEY_OLD] = key;
    token_key_info(key, &info);
    put(job, "uri", info.uri);
    for (CK_ULONG i = 0; i < key->n_pattern; i++)
        if (key->pattern[i].type == CKA_LABEL)
            put(job, "label", key->pattern[i].pValue); /* object_read() puts a NUL behind it */
    length = i2d_X509(info.chain[0], &der);
    if (length <= 0)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot encode a certificate");
    r = put_hex(job, "certificate", der, (size_t)length, err);
    OPENSSL_free(der);
    return r;
}

/* {"type":"discard"}: the new key is not wanted any more. */
static result discard(struct provisioner *self, const struct job *job, struct error *err)
{
    (void)job;
    if (self->keys[PROVISIONER_KEY_NEW] == NULL)
        return ERROR_NONE;
    return generate_discard(self->token, self->keys[PROVISIONER_KEY_NEW], err);
}

static void announce(struct provisioner *self, uint32_t number)
{
    struct keyholder_identity identity = {.key = number, .state = TOKEN_READY};
    unsigned char *der = NULL;
    struct token_key_info info;
    int length = 0;

    (void)snprintf(identity.name, sizeof(identity.name), "%s", number == PROVISIONER_KEY_NEW ? "new" : "old");
    if (self->keys[number] == NULL) {
        identity.state = TOKEN_FAILED;
        identity.category = ERROR_TOKEN;
        (void)snprintf(identity.reason, sizeof(identity.reason), "there is no such key");
    } else {
        token_key_info(self->keys[number], &info);
        (void)snprintf(identity.uri, sizeof(identity.uri), "%s", info.uri);
        memcpy(identity.schemes, info.schemes, sizeof(identity.schemes));
        identity.n_schemes = info.n_schemes;
        identity.n_chain = 1;
        if (number == PROVISIONER_KEY_OLD)
            length = i2d_X509(info.chain[0], &der);
        identity.chain[0] = number == PROVISIONER_KEY_OLD ? der : self->spki;
        identity.chain_length[0] =
            number == PROVISIONER_KEY_OLD ? (size_t)(length < 0 ? 0 : length) : self->spki_length;
    }
    protocol_encode_identity(&self->out, &identity);
    OPENSSL_free(der);
}

static result send_out(struct provisioner *self, struct error *err)
{
    if (!buffer_ok(&self->out) || packet_send(self->link, self->out.data, self->out.length, -1, NULL) != PACKET_OK)
        return error_set(err, ERROR_PROTOCOL, "the link is broken");
    return ERROR_NONE;
}

/* {"type":"link"} and a descriptor: the way for sign requests, as a worker's. */
static result link_up(struct provisioner *self, const struct job *job, struct error *err)
{
    result r;

    if (job->descriptor < 0 || self->link >= 0 || self->spki == NULL)
        return error_set(err, ERROR_PROTOCOL, "a link without a descriptor, a second one, or before there is a key");
    self->link = dup(job->descriptor);
    if (self->link < 0)
        return error_set_errno(err, errno, "cannot keep the link");
    packet_raise_buffers(self->link, KEYHOLDER_MESSAGE_MAX);
    protocol_encode_hello(&self->out, N_KEYS);
    r = send_out(self, err);
    for (uint32_t i = 0; r == ERROR_NONE && i < N_KEYS; i++) {
        announce(self, i);
        r = send_out(self, err);
    }
    protocol_encode_credit(&self->out, CREDIT);
    return r == ERROR_NONE ? send_out(self, err) : r;
}

static result take_certificates(const struct job *job, struct certificate_list *list, struct error *err)
{
    const cJSON *entry;

    cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(job->in, "certificates"))
    {
        uint8_t der[TOKEN_CERTIFICATE_MAX];
        const unsigned char *at = der;
        size_t length = 0;
        X509 *certificate = NULL;

        if (cJSON_IsString(entry) && text_parse_hex(entry->valuestring, der, sizeof(der), &length))
            certificate = d2i_X509(NULL, &at, (long)length);
        if (certificate == NULL || list->n == CERTIFICATES_MAX) {
            X509_free(certificate);
            return error_set(err, ERROR_CONFIG, "a certificate is broken, longer than %d bytes, or one of more than %d",
                             TOKEN_CERTIFICATE_MAX, CERTIFICATES_MAX);
        }
        list->items[list->n++] = certificate;
    }
    return list->n > 0 ? ERROR_NONE : error_set(err, ERROR_PROTOCOL, "import without certificates");
}

/* {"type":"import","certificates":[hex ...],"id","label"} */
static result import(struct provisioner *self, const struct job *job, struct error *err)
{
    uint8_t id[GENERATE_ID_MAX];
    struct provision_certificates what = {.label = text_of(job, "label")};
    struct provision_stored stored;
    struct certificate_list list = {0};
    result r = ERROR_NONE;

    if (!get_id(job, id, sizeof(id), &what.id_length))
        r = error_set(err, ERROR_CONFIG, "the id is not hex of at most %d bytes", GENERATE_ID_MAX);
    if (r == ERROR_NONE)
        r = take_certificates(job, &list, err);
    what.id = what.id_length > 0 ? id : NULL;
    what.items = list.items;
    what.n = list.n;
    if (r == ERROR_NONE)
        r = provision_import(self->token, &what, &stored, err);
    certificate_list_free(&list);
    if (r != ERROR_NONE)
        return r;
    put(job, "key", stored.key_uri);
    put(job, "certificate", stored.certificate_uri);
    put(job, "subject", stored.subject);
    (void)cJSON_AddNumberToObject(job->out, "issuers-stored", (double)stored.n_issuers);
    (void)cJSON_AddNumberToObject(job->out, "issuers-present", (double)stored.n_present);
    (void)cJSON_AddNumberToObject(job->out, "unused", (double)stored.n_unused);
    return ERROR_NONE;
}

/* {"type":"init-token","label","erase","so-pin-source"} and, for a source read by the parent, the SO PIN's descriptor.
 */
static result init_token(struct provisioner *self, const struct job *job, struct error *err)
{
    struct initialise_request request = {.module = self->config->module,
                                         .label = text_of(job, "label"),
                                         .erase = text_of(job, "erase"),
                                         .pin = self->pin,
                                         .state_directory = self->config->state_directory,
                                         .unlock_command = self->config->unlock_command};
    const char *source = text_of(job, "so-pin-source");
    struct initialise_outcome outcome;
    int descriptor = job->descriptor < 0 ? -1 : dup(job->descriptor);
    result r;

    if (request.label == NULL || source == NULL || request.module == NULL || request.pin == NULL)
        return error_set(err, ERROR_PROTOCOL, "init-token without module, label or PIN sources");
    r = pin_source_new(source, descriptor, &request.so_pin, err);
    if (r != ERROR_NONE && descriptor >= 0)
        (void)close(descriptor);
    if (r == ERROR_NONE)
        r = initialise_token(&request, &outcome, err);
    pin_source_free(request.so_pin);
    if (r == ERROR_NONE)
        put(job, "uri", outcome.uri);
    return r;
}

static const struct kind {
    const char *name;
    bool enrol, provision; /* the purposes it is for */
    bool token;            /* works on the token that the configuration names */
    result (*run)(struct provisioner *self, const struct job *job, struct error *err);
} kinds[] = {
    {"login", true, true, true, login},
    {"generate", true, false, true, generate},
    {"replace", true, false, true, replace},
    {"discard", true, false, true, discard},
    {"link", true, false, true, link_up},
    {"import", true, true, true, import},
    {"init-token", false, true, false, init_token},
};

static result do_job(struct provisioner *self, const struct job *job, struct error *err)
{
    bool enrol = self->config->purpose == KEYHOLDER_PURPOSE_ENROL;
    const char *type = text_of(job, "type");

    for (size_t i = 0; type != NULL && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const struct kind *kind = &kinds[i];

        if (strcmp(kind->name, type) != 0 || !(enrol ? kind->enrol : kind->provision))
            continue;
        if (kind->token && open_token(self, err) != ERROR_NONE)
            return err->category;
        return kind->run(self, job, err);
    }
    return error_set(err, ERROR_PROTOCOL, "no job of that name for this purpose");
}

/* {"type":"answer","category","text", what the job has to say} */
static result answer(struct job *job, const struct error *outcome, struct error *err)
{
    enum packet_status status = PACKET_FAILED;
    char *text;

    put(job, "type", "answer");
    put(job, "category", error_category_name(outcome->category));
    put(job, "text", outcome->text);
    text = cJSON_PrintUnformatted(job->out);
    if (text != NULL)
        status = packet_send(CONTROL_DESCRIPTOR, text, strlen(text), -1, err);
    cJSON_free(text);
    return status == PACKET_OK ? ERROR_NONE : error_set(err, ERROR_PROTOCOL, "the answer could not be sent");
}

/* False at the end of the socket. */
static bool serve_control(struct provisioner *self, struct error *err)
{
    struct packet packet = {.data = self->data, .size = KEYHOLDER_MESSAGE_MAX};
    struct error outcome = ERROR_INIT;
    struct job job = {.descriptor = -1};
    enum packet_status status = packet_receive_descriptor(CONTROL_DESCRIPTOR, &packet, err);
    result r;

    if (status == PACKET_AGAIN)
        return true;
    if (status != PACKET_OK)
        return false;
    job.descriptor = packet.descriptor;
    job.in = cJSON_ParseWithLength((const char *)packet.data, packet.length);
    job.out = cJSON_CreateObject();
    (void)do_job(self, &job, &outcome);
    r = answer(&job, &outcome, err);
    cJSON_Delete((cJSON *)(uintptr_t)job.in);
    cJSON_Delete(job.out);
    if (job.descriptor >= 0)
        (void)close(job.descriptor);
    return r == ERROR_NONE;
}

static result check_request(const struct provisioner *self, const struct protocol_sign *request, struct error *err)
{
    struct purpose_enrol_request check = {.made = request->key == PROVISIONER_KEY_NEW,
                                          .spki = self->spki,
                                          .spki_length = self->spki_length,
                                          .message = request->message,
                                          .length = request->length};

    if (request->key >= N_KEYS || self->keys[request->key] == NULL)
        return error_set(err, ERROR_PROTOCOL, "no key has the number %u", (unsigned)request->key);
    if (clock_remaining(request->deadline, UINT64_MAX) == 0)
        return error_set(err, ERROR_TOKEN, "the request came too late");
    return purpose_enrol_check(&check, err);
}

static void write_audit(const struct protocol_sign *request, const struct protocol_result *outcome,
                        const struct error *why)
{
    struct audit audit = {.scheme = request->scheme,
                          .length = request->length,
                          .mechanism = outcome->ok ? outcome->mechanism : NULL,
                          .sign_ms = outcome->sign_ms,
                          .reason = *why};

    (void)snprintf(audit.identity, sizeof(audit.identity), "%s", request->key == PROVISIONER_KEY_NEW ? "new" : "old");
    audit_write(&audit);
}

static void sign(struct provisioner *self, const struct protocol_sign *request, struct protocol_result *ret,
                 struct token_signature *signature)
{
    uint64_t before = clock_monotonic_ms();
    struct error why = ERROR_INIT;
    result r = check_request(self, request, &why);

    *ret = (struct protocol_result){.id = request->id};
    if (r == ERROR_NONE)
        r = token_key_sign(self->keys[request->key], request->scheme, request->message, request->length, signature,
                           &why);
    if (r == ERROR_NONE) {
        ret->ok = true;
        ret->signature = signature->bytes;
        ret->signature_length = signature->length;
        ret->sign_ms = (uint32_t)(clock_monotonic_ms() - before);
        (void)snprintf(ret->mechanism, sizeof(ret->mechanism), "%s", signature->mechanism);
    } else {
        ret->category = why.category;
        (void)snprintf(ret->reason, sizeof(ret->reason), "%s", why.text);
    }
    write_audit(request, ret, &why);
}

/* One sign request. A link that is broken is closed: the jobs go on. */
static void serve_link(struct provisioner *self)
{
    struct protocol_message message;
    struct protocol_result outcome;
    struct token_signature signature;
    size_t length = 0;
    enum packet_status status = packet_receive(self->link, self->data, KEYHOLDER_MESSAGE_MAX, &length, NULL);
    bool ok = status == PACKET_OK && protocol_decode(self->data, length, &message, NULL) == ERROR_NONE;

    if (status == PACKET_AGAIN)
        return;
    if (ok && message.type == PROTOCOL_SIGN) {
        protocol_encode_started(&self->out, message.sign.id);
        ok = send_out(self, NULL) == ERROR_NONE;
        sign(self, &message.sign, &outcome, &signature);
        protocol_encode_result(&self->out, &outcome);
        ok = ok && send_out(self, NULL) == ERROR_NONE;
    } else if (ok) {
        ok = message.type == PROTOCOL_CANCEL; /* what it would cancel has been answered: there is one thread */
    }
    if (!ok) {
        (void)close(self->link);
        self->link = -1;
    }
}

static void serve(struct provisioner *self, struct error *err)
{
    for (;;) {
        struct pollfd fds[] = {{.fd = CONTROL_DESCRIPTOR, .events = POLLIN}, {.fd = self->link, .events = POLLIN}};

        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return;
        if (fds[1].revents != 0)
            serve_link(self);
        if (fds[0].revents != 0 && !serve_control(self, err))
            return;
    }
}

result provisioner_run(const struct keyholder_config *config, int pin_descriptor, struct error *err)
{
    struct provisioner self = {.config = config, .link = -1, .data = malloc(KEYHOLDER_MESSAGE_MAX)};
    struct error end = ERROR_INIT;
    result r = self.data == NULL ? error_set(err, ERROR_INTERNAL, "out of memory") : ERROR_NONE;

    buffer_init(&self.out, KEYHOLDER_MESSAGE_MAX);
    if (r == ERROR_NONE && config->pin_source != NULL)
        r = pin_source_new(config->pin_source, pin_descriptor, &self.pin, err);
    if (r == ERROR_NONE)
        serve(&self, &end);
    if (self.link >= 0)
        (void)close(self.link);
    for (size_t i = 0; i < N_KEYS; i++)
        token_key_free(self.keys[i]);
    token_free(self.token);
    pin_source_free(self.pin);
    OPENSSL_free(self.spki);
    buffer_free(&self.out);
    free(self.data);
    return r;
}
