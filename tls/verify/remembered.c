#include "tls/verify/remembered.h"

#include "tls/verify/crl.h"
#include "tls/verify/trust.h"

#include <openssl/err.h>
#include <openssl/objects.h>
#include <stdlib.h>
#include <string.h>

/* What an accepting verdict says besides its path, in a size that suits keeping many. */
struct kept {
    struct verdict_note *notes; /* n_notes of them */
    struct verdict_crl *crls;
    size_t n_notes, n_crls;
    uint64_t unanswered;
    bool stale_crl, staple_pending;
    uint16_t passed[VERDICT_DEPTHS_MAX];
    STACK_OF(X509) * path;
    STACK_OF(ASN1_OBJECT) * policies; /* NULL: none */
};

struct entry {
    /* What it is the verdict on, besides the settings. */
    X509 *leaf;
    STACK_OF(X509) * untrusted;
    char *hostname; /* NULL: none was checked */
    enum chain_stapling stapling;

    uint64_t tag;         /* of the leaf, to pass over others quickly */
    uint64_t turn;        /* of the last use */
    int64_t since, until; /* UNIX seconds: holds from, and before */
    uint64_t until_us;    /* CLOCK_MONOTONIC: holds before */
    struct kept kept;
};

struct remembered {
    struct entry *entries;
    size_t n, capacity;
    uint64_t turn;
    int64_t latest; /* the latest time of a request */

    /* What a request of any entry says besides certificates, name, stapling and time; trust and CRLs are referenced. */
    struct chain_request settings;
    uint8_t (*spkis)[CHAIN_SPKI_LENGTH];

    /* Between these no date of the trust anchors and CRLs passes; until 0: not known. */
    int64_t standing_since, standing_until;
};

struct remembered *remembered_new(void)
{
    return calloc(1, sizeof(struct remembered));
}

static void kept_clear(struct kept *kept)
{
    free(kept->notes);
    free(kept->crls);
    sk_X509_pop_free(kept->path, X509_free);
    sk_ASN1_OBJECT_pop_free(kept->policies, ASN1_OBJECT_free);
}

static void entry_clear(struct entry *entry)
{
    X509_free(entry->leaf);
    sk_X509_pop_free(entry->untrusted, X509_free);
    free(entry->hostname);
    kept_clear(&entry->kept);
    *entry = (struct entry){.leaf = NULL};
}

static void remove_entry(struct remembered *memory, struct entry *entry)
{
    entry_clear(entry);
    *entry = memory->entries[--memory->n];
    memory->entries[memory->n] = (struct entry){.leaf = NULL};
}

void remembered_clear(struct remembered *memory)
{
    if (memory == NULL)
        return;
    while (memory->n > 0)
        remove_entry(memory, &memory->entries[memory->n - 1]);
    trust_free((struct trust *)(uintptr_t)memory->settings.trust);
    crl_snapshot_free((struct crl_snapshot *)(uintptr_t)memory->settings.crls);
    free(memory->spkis);
    memory->spkis = NULL;
    memory->settings = (struct chain_request){.trust = NULL};
    memory->standing_since = memory->standing_until = 0;
}

void remembered_free(struct remembered *memory)
{
    remembered_clear(memory);
    if (memory != NULL)
        free(memory->entries);
    free(memory);
}

size_t remembered_count(const struct remembered *memory)
{
    return memory->n;
}

static bool same_settings(const struct chain_request *a, const struct chain_request *b)
{
    return a->trust == b->trust && a->crls == b->crls && a->order == b->order && a->crl_grace == b->crl_grace &&
           a->depth == b->depth && a->purpose == b->purpose && a->revocation == b->revocation &&
           a->policy == b->policy && a->explicit_policy == b->explicit_policy && a->inhibit_any == b->inhibit_any &&
           a->inhibit_mapping == b->inhibit_mapping && a->of_crl_issuer == b->of_crl_issuer && a->libctx == b->libctx &&
           a->n_spkis == b->n_spkis &&
           (a->n_spkis == 0 || memcmp(a->spkis, b->spkis, a->n_spkis * CHAIN_SPKI_LENGTH) == 0);
}

/* Make the request's settings those of the (empty) memory. References keep their addresses from being used again. */
static bool take_settings(struct remembered *memory, const struct chain_request *request)
{
    size_t size = request->n_spkis * CHAIN_SPKI_LENGTH;

    memory->spkis = malloc(size + 1);
    if (memory->spkis == NULL)
        return false;
    if (size > 0)
        memcpy(memory->spkis, request->spkis, size);
    memory->settings = *request;
    memory->settings.spkis = (const uint8_t(*)[CHAIN_SPKI_LENGTH])memory->spkis;
    memory->settings.trust = trust_ref((struct trust *)(uintptr_t)request->trust);
    memory->settings.crls = crl_snapshot_ref((struct crl_snapshot *)(uintptr_t)request->crls);
    return true;
}

/* Byte by byte; X509_cmp() alone answers for what is signed, and for the rest by a SHA-1. */
static bool same_certificate(const X509 *a, const X509 *b)
{
    const ASN1_BIT_STRING *signature_a, *signature_b;
    const X509_ALGOR *algorithm_a, *algorithm_b;

    if (a == b)
        return true;
    X509_get0_signature(&signature_a, &algorithm_a, a);
    X509_get0_signature(&signature_b, &algorithm_b, b);
    return ASN1_STRING_cmp(signature_a, signature_b) == 0 && X509_ALGOR_cmp(algorithm_a, algorithm_b) == 0 &&
           X509_cmp(a, b) == 0;
}

static bool same_chain(const STACK_OF(X509) * a, const STACK_OF(X509) * b)
{
    int n = a == NULL ? 0 : sk_X509_num(a);

    if (n != (b == NULL ? 0 : sk_X509_num(b)))
        return false;
    for (int i = 0; i < n; i++) {
        if (!same_certificate(sk_X509_value(a, i), sk_X509_value(b, i)))
            return false;
    }
    return true;
}

static bool same_name(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* The end of the signature, which differs from certificate to certificate; who makes it the same gains a comparison. */
static uint64_t tag_of(const X509 *certificate)
{
    const ASN1_BIT_STRING *signature;
    const X509_ALGOR *algorithm;
    uint64_t tag = 0;
    int length;

    X509_get0_signature(&signature, &algorithm, certificate);
    length = ASN1_STRING_length(signature);
    if (length >= (int)sizeof(tag))
        memcpy(&tag, ASN1_STRING_get0_data(signature) + length - (int)sizeof(tag), sizeof(tag));
    return tag;
}

static struct entry *find(struct remembered *memory, const struct chain_request *request)
{
    uint64_t tag = tag_of(request->leaf);

    for (size_t i = 0; i < memory->n; i++) {
        struct entry *entry = &memory->entries[i];

        if (entry->tag == tag && entry->stapling == request->stapling &&
            same_name(entry->hostname, request->hostname) && same_certificate(entry->leaf, request->leaf) &&
            same_chain(entry->untrusted, request->untrusted))
            return entry;
    }
    return NULL;
}

static STACK_OF(ASN1_OBJECT) * copy_policies(const STACK_OF(ASN1_OBJECT) * policies)
{
    STACK_OF(ASN1_OBJECT) *copy = sk_ASN1_OBJECT_new_null();

    for (int i = 0; copy != NULL && i < sk_ASN1_OBJECT_num(policies); i++) {
        ASN1_OBJECT *policy = OBJ_dup(sk_ASN1_OBJECT_value(policies, i));

        if (policy == NULL || sk_ASN1_OBJECT_push(copy, policy) <= 0) {
            ASN1_OBJECT_free(policy);
            sk_ASN1_OBJECT_pop_free(copy, ASN1_OBJECT_free);
            return NULL;
        }
    }
    return copy;
}

/* Path and policies, the owned parts; both or none. */
static bool copy_stacks(STACK_OF(X509) * path, const STACK_OF(ASN1_OBJECT) * policies, STACK_OF(X509) * *ret_path,
                        STACK_OF(ASN1_OBJECT) * *ret_policies)
{
    *ret_path = X509_chain_up_ref(path);
    *ret_policies = policies == NULL ? NULL : copy_policies(policies);
    if (*ret_path != NULL && (policies == NULL) == (*ret_policies == NULL))
        return true;
    sk_X509_pop_free(*ret_path, X509_free);
    sk_ASN1_OBJECT_pop_free(*ret_policies, ASN1_OBJECT_free);
    return false;
}

static bool keep(struct kept *kept, const struct verdict *verdict)
{
    *kept = (struct kept){.n_notes = verdict->n_notes,
                          .n_crls = verdict->n_crls,
                          .unanswered = verdict->unanswered,
                          .stale_crl = verdict->stale_crl,
                          .staple_pending = verdict->staple_pending};
    memcpy(kept->passed, verdict->passed, sizeof(kept->passed));
    if (!copy_stacks(verdict->path, verdict->policies, &kept->path, &kept->policies)) {
        kept->path = NULL;
        kept->policies = NULL;
        return false;
    }
    kept->notes = malloc((kept->n_notes + 1) * sizeof(*kept->notes));
    kept->crls = malloc((kept->n_crls + 1) * sizeof(*kept->crls));
    if (kept->notes == NULL || kept->crls == NULL)
        return false;
    memcpy(kept->notes, verdict->notes, kept->n_notes * sizeof(*kept->notes));
    memcpy(kept->crls, verdict->crls, kept->n_crls * sizeof(*kept->crls));
    return true;
}

static bool give(const struct kept *kept, struct verdict *ret)
{
    STACK_OF(X509) * path;
    STACK_OF(ASN1_OBJECT) * policies;

    if (!copy_stacks(kept->path, kept->policies, &path, &policies))
        return false;
    memset(ret, 0, offsetof(struct verdict, notes));
    ret->accepted = true;
    ret->remembered = true;
    ret->x509_error = X509_V_OK;
    ret->n_notes = kept->n_notes;
    ret->n_crls = kept->n_crls;
    ret->unanswered = kept->unanswered;
    ret->stale_crl = kept->stale_crl;
    ret->staple_pending = kept->staple_pending;
    ret->path = path;
    ret->policies = policies;
    memcpy(ret->notes, kept->notes, kept->n_notes * sizeof(*kept->notes));
    memcpy(ret->crls, kept->crls, kept->n_crls * sizeof(*kept->crls));
    memcpy(ret->passed, kept->passed, sizeof(kept->passed));
    return true;
}

bool remembered_recall(struct remembered *memory, const struct chain_request *request, uint64_t now_us,
                       struct verdict *ret)
{
    struct entry *entry;

    if (memory == NULL)
        return false;
    if (memory->n > 0 && (request->time < memory->latest || !same_settings(&memory->settings, request)))
        remembered_clear(memory);
    memory->latest = request->time;
    if (request->policies != NULL || request->n_responses > 0 || request->staple.length > 0)
        return false;
    entry = find(memory, request);
    if (entry == NULL)
        return false;
    if (request->time < entry->since || request->time >= entry->until || now_us >= entry->until_us) {
        remove_entry(memory, entry);
        return false;
    }
    entry->turn = ++memory->turn;
    return give(&entry->kept, ret);
}

/* *until: the next moment from which a date counts differently than at `now`; what has no date says 0. */
static void look_at_begin(int64_t at, int64_t now, int64_t *until)
{
    if (at > now && at < *until)
        *until = at;
}

/* An end belongs to the time before it (RFC 5280 4.1.2.5); that last second is not made use of. */
static void look_at_end(int64_t at, int64_t now, int64_t *until)
{
    if (at >= now && at < *until)
        *until = at;
}

static void look_at_certificates(const STACK_OF(X509) * certificates, int64_t now, int64_t *until)
{
    for (int i = 0; i < sk_X509_num(certificates); i++) {
        const X509 *certificate = sk_X509_value(certificates, i);

        look_at_begin(verdict_seconds(X509_get0_notBefore(certificate)), now, until);
        look_at_end(verdict_seconds(X509_get0_notAfter(certificate)), now, until);
    }
}

/*
 * The same for what all requests have in common. All of it is looked at, used or not: a CRL that becomes valid, or a
 * certificate that ends another path, may change a verdict too.
 */
static int64_t standing_until(struct remembered *memory, int64_t now)
{
    const struct chain_request *settings = &memory->settings;
    const STACK_OF(X509_CRL) *crls = settings->crls == NULL ? NULL : crl_snapshot_crls(settings->crls);
    int64_t until = INT64_MAX;

    if (now >= memory->standing_since && now < memory->standing_until)
        return memory->standing_until;
    look_at_certificates(trust_certificates(settings->trust), now, &until);
    look_at_certificates(trust_intermediates(settings->trust), now, &until);
    for (int i = 0; crls != NULL && i < sk_X509_CRL_num(crls); i++) {
        const X509_CRL *crl = sk_X509_CRL_value(crls, i);
        int64_t end = verdict_seconds(X509_CRL_get0_nextUpdate(crl));

        look_at_begin(verdict_seconds(X509_CRL_get0_lastUpdate(crl)), now, &until);
        look_at_end(end, now, &until);
        if (end > 0 && settings->crl_grace > 0 && settings->crl_grace < INT64_MAX - end)
            look_at_end(end + settings->crl_grace, now, &until);
    }
    memory->standing_since = now;
    memory->standing_until = until;
    return until;
}

static bool is_small(const struct chain_request *request)
{
    int n = request->untrusted == NULL ? 0 : sk_X509_num(request->untrusted);
    int bytes = i2d_X509(request->leaf, NULL);

    if (n > REMEMBERED_CERTIFICATES_MAX)
        return false;
    for (int i = 0; i < n && bytes <= REMEMBERED_BYTES_MAX; i++)
        bytes += i2d_X509(sk_X509_value(request->untrusted, i), NULL);
    return bytes <= REMEMBERED_BYTES_MAX;
}

/* A reference to the certificates of `from`, or an empty stack. */
static STACK_OF(X509) * hold(STACK_OF(X509) * from)
{
    return from == NULL ? sk_X509_new_null() : X509_chain_up_ref(from);
}

/* NULL: no memory. */
static struct entry *make_room(struct remembered *memory)
{
    struct entry *oldest;

    if (memory->n == memory->capacity && memory->n < REMEMBERED_MAX) {
        size_t capacity = memory->n == 0 ? 4 : 2 * memory->n;
        struct entry *entries = reallocarray(memory->entries, capacity, sizeof(*entries));

        if (entries == NULL)
            return NULL;
        memory->entries = entries;
        memory->capacity = capacity;
    }
    if (memory->n < memory->capacity)
        return &memory->entries[memory->n++];
    oldest = &memory->entries[0];
    for (size_t i = 1; i < memory->n; i++) {
        if (memory->entries[i].turn < oldest->turn)
            oldest = &memory->entries[i];
    }
    entry_clear(oldest);
    return oldest;
}

_Static_assert((REMEMBERED_MAX & (REMEMBERED_MAX - 1)) == 0 && REMEMBERED_MAX >= 4, "reached by doubling");

/* An entry as it is to be; what is missing in it (false) is for want of memory. */
static bool fill(struct entry *entry, const struct chain_request *request, const struct verdict *verdict)
{
    *entry = (struct entry){.stapling = request->stapling, .tag = tag_of(request->leaf), .since = request->time};
    if (X509_up_ref(request->leaf) != 1)
        return false;
    entry->leaf = request->leaf;
    entry->untrusted = hold(request->untrusted);
    entry->hostname = request->hostname == NULL ? NULL : strdup(request->hostname);
    return entry->untrusted != NULL && (request->hostname == NULL || entry->hostname != NULL) &&
           keep(&entry->kept, verdict);
}

void remembered_keep(struct remembered *memory, const struct chain_request *request, uint64_t now_us,
                     const struct verdict *verdict)
{
    struct entry *entry, filled;
    int64_t until;
    uint64_t left;

    if (memory == NULL || !verdict->accepted || verdict->path == NULL || request->policies != NULL ||
        request->n_responses > 0 || request->staple.length > 0 || verdict->n_ocsps > 0 || !is_small(request))
        return;
    if (memory->n == 0 || !same_settings(&memory->settings, request)) {
        remembered_clear(memory);
        if (!take_settings(memory, request))
            return;
    }
    until = standing_until(memory, request->time);
    look_at_certificates(verdict->path, request->time, &until);
    look_at_certificates(request->untrusted, request->time, &until);
    if (until <= request->time)
        return;
    entry = fill(&filled, request, verdict) ? make_room(memory) : NULL;
    if (entry == NULL) {
        entry_clear(&filled);
        return;
    }
    left = (uint64_t)(until - request->time);
    filled.until = until;
    filled.until_us = left < (UINT64_MAX - now_us) / 1000000 ? now_us + left * 1000000 : UINT64_MAX;
    filled.turn = ++memory->turn;
    *entry = filled;
    ERR_clear_error();
}
