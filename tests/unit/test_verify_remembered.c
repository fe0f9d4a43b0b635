/* Remembered verdicts: what is given again, and each single change that has a verdict reached anew. */
#include "verify_world.h"

#include "tls/verify/remembered.h"

#define SECOND_US UINT64_C(1000000)
#define NOW_US (1000 * SECOND_US)

static struct remembered *make_memory(void)
{
    struct remembered *memory = remembered_new();

    assert_non_null(memory);
    return memory;
}

/* Reach the verdict on the request as a connection does; true when it was remembered. */
static bool ask_at(struct remembered *memory, const struct chain_request *request, uint64_t now_us, bool accepted)
{
    struct verdict *verdict = calloc(1, sizeof(*verdict));
    bool remembered;

    assert_non_null(verdict);
    if (!remembered_recall(memory, request, now_us, verdict)) {
        chain_verify(request, verdict);
        remembered_keep(memory, request, now_us, verdict);
    }
    remembered = verdict->remembered;
    assert_int_equal(verdict->accepted, accepted);
    verdict_free(verdict);
    free(verdict);
    return remembered;
}

static bool ask(struct remembered *memory, const struct chain_request *request)
{
    return ask_at(memory, request, NOW_US, true);
}

static void the_same_verdict_again(void **state)
{
    struct remembered *memory = make_memory();
    struct verdict *first = calloc(1, sizeof(*first)), *again = calloc(1, sizeof(*again));
    X509 *leaf, *inter;
    WORLD(w);

    w.leaf_spec.extensions[4] = (struct pki_extension){"certificatePolicies", "1.2.3.4"};
    w.inter_spec.extensions[4] = (struct pki_extension){"certificatePolicies", "1.2.3.4"};
    w.request.revocation = CHAIN_REVOCATION_PREFER;
    w.no_root_crl = true;
    world_build(&w);
    chain_verify(&w.request, first);
    assert_true(first->accepted && first->n_notes == 1 && first->n_crls == 1 && first->policies != NULL);
    assert_false(remembered_recall(memory, &w.request, NOW_US, again));
    remembered_keep(memory, &w.request, NOW_US, first);
    /* what comes next time are the same bytes, not the same objects */
    leaf = w.request.leaf = X509_dup(w.leaf);
    inter = X509_dup(w.inter);
    (void)sk_X509_set(w.request.untrusted, 0, inter);
    assert_true(remembered_recall(memory, &w.request, NOW_US, again));
    assert_true(again->accepted && again->remembered && !first->remembered);
    assert_int_equal(again->x509_error, X509_V_OK);
    assert_int_equal(again->n_notes, first->n_notes);
    assert_string_equal(again->notes[0].text, first->notes[0].text);
    assert_int_equal(again->n_crls, first->n_crls);
    assert_memory_equal(&again->crls[0], &first->crls[0], sizeof(first->crls[0]));
    assert_int_equal(again->n_ocsps, 0);
    assert_true(again->unanswered == first->unanswered && again->unanswered != 0);
    assert_int_equal(again->stale_crl, first->stale_crl);
    assert_int_equal(again->staple_pending, first->staple_pending);
    assert_memory_equal(again->passed, first->passed, sizeof(first->passed));
    assert_int_equal(sk_X509_num(again->path), 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(X509_cmp(sk_X509_value(again->path, i), sk_X509_value(first->path, i)), 0);
    assert_int_equal(sk_ASN1_OBJECT_num(again->policies), 1);
    assert_int_equal(OBJ_cmp(sk_ASN1_OBJECT_value(again->policies, 0), sk_ASN1_OBJECT_value(first->policies, 0)), 0);
    verdict_free(first);
    verdict_free(again);
    free(first);
    free(again);
    X509_free(leaf);
    X509_free(inter);
    remembered_free(memory);
    world_free(&w);
}

/* A new member of these must find its way into remembered.c. */
static void nothing_was_added_unseen(void **state)
{
    (void)state;
    if (sizeof(void *) != 8)
        skip();
    assert_int_equal(sizeof(struct chain_request), 152);
    assert_int_equal(sizeof(struct verdict), 20792);
}

static void without_a_memory(void **state)
{
    WORLD(w);

    world_build(&w);
    assert_false(ask(NULL, &w.request));
    assert_false(ask(NULL, &w.request));
    remembered_clear(NULL);
    remembered_free(NULL);
    world_free(&w);
}

static void another_name(void **state)
{
    struct remembered *memory = make_memory();
    WORLD(w);

    world_build(&w);
    w.request.hostname = "a.example";
    assert_false(ask(memory, &w.request));
    assert_true(ask(memory, &w.request));
    w.request.hostname = "b.w.example";
    assert_false(ask(memory, &w.request));
    w.request.hostname = "evil.example";
    assert_false(ask_at(memory, &w.request, NOW_US, false));
    w.request.hostname = NULL;
    assert_false(ask(memory, &w.request));
    w.request.hostname = "a.example";
    assert_true(ask(memory, &w.request));
    remembered_free(memory);
    world_free(&w);
}

static void other_certificates(void **state)
{
    struct remembered *memory = make_memory();
    STACK_OF(X509) * sent, *more, *swapped, *none = sk_X509_new_null();
    X509 *other, *forged;
    ASN1_BIT_STRING *signature;
    WORLD(w);

    world_build(&w);
    sent = w.request.untrusted;
    assert_true(sk_X509_push(sent, w.root) > 0);
    assert_false(ask(memory, &w.request));
    assert_true(ask(memory, &w.request));
    more = sk_X509_dup(sent);
    swapped = sk_X509_new_null();
    assert_true(sk_X509_push(more, w.leaf) > 0);
    assert_true(sk_X509_push(swapped, w.root) > 0 && sk_X509_push(swapped, w.inter) > 0);
    w.request.untrusted = more;
    assert_false(ask(memory, &w.request));
    w.request.untrusted = swapped;
    assert_false(ask(memory, &w.request));
    w.request.untrusted = none;
    assert_false(ask_at(memory, &w.request, NOW_US, false));
    w.request.untrusted = NULL;
    assert_false(ask_at(memory, &w.request, NOW_US, false));
    w.request.untrusted = sent;

    /* another certificate with the same key and name */
    w.leaf_spec.serial = 4;
    other = pki_decoded(pki_make(&w.leaf_spec));
    w.request.leaf = other;
    assert_false(ask(memory, &w.request));
    /* the same, but for a bit of the signature that nothing looks at before the end */
    forged = X509_dup(w.leaf);
    X509_get0_signature((const ASN1_BIT_STRING **)&signature, NULL, forged);
    signature->data[signature->length / 2] ^= 1;
    forged = pki_decoded(forged);
    w.request.leaf = forged;
    assert_false(ask_at(memory, &w.request, NOW_US, false));
    w.request.leaf = w.leaf;
    assert_true(ask(memory, &w.request));

    X509_free(other);
    X509_free(forged);
    sk_X509_free(more);
    sk_X509_free(swapped);
    sk_X509_free(none);
    remembered_free(memory);
    world_free(&w);
}

static void rejections_are_not_kept(void **state)
{
    struct remembered *memory = make_memory();
    WORLD(w);

    w.inter_crl_spec.revoked[0] = 3;
    world_build(&w);
    assert_false(ask_at(memory, &w.request, NOW_US, false));
    assert_false(ask_at(memory, &w.request, NOW_US, false));
    assert_int_equal(remembered_count(memory), 0);
    remembered_free(memory);
    world_free(&w);
}

/* Remember, have `crl` besides or instead of the intermediate's, and expect a rejection. */
static void revoke_with(struct world *w, struct remembered *memory, const struct pki_crl *spec, bool besides)
{
    X509_CRL *crls[3] = {w->crls[0], NULL, w->crls[1]};
    struct crl_snapshot *before = (struct crl_snapshot *)(uintptr_t)w->request.crls, *after;

    assert_false(ask(memory, &w->request));
    assert_true(ask(memory, &w->request));
    crls[1] = pki_make_crl(spec);
    after = pki_snapshot(crls, besides ? 3 : 2);
    w->request.crls = after;
    assert_false(ask_at(memory, &w->request, NOW_US, false));
    assert_int_equal(remembered_count(memory), 0);
    w->request.crls = NULL;
    assert_false(ask_at(memory, &w->request, NOW_US, false));
    w->request.crls = before;
    assert_false(ask(memory, &w->request));
    crl_snapshot_free(after);
    X509_CRL_free(crls[1]);
}

static void a_crl_that_revokes(void **state)
{
    struct remembered *memory = make_memory();
    struct pki_crl revoking;
    WORLD(w);

    world_build(&w);
    revoking = w.inter_crl_spec;
    revoking.revoked[0] = 3;
    revoke_with(&w, memory, &revoking, false);
    remembered_free(memory);
    world_free(&w);
}

static void a_delta_that_revokes(void **state)
{
    struct remembered *memory = make_memory();
    struct pki_crl delta;
    WORLD(w);

    w.inter_crl_spec.extensions[0] = (struct pki_extension){"crlNumber", "DER:020101"};
    world_build(&w);
    delta = w.inter_crl_spec;
    delta.revoked[0] = 3;
    delta.this_update = PKI_NOW - 60;
    delta.extensions[0].value = "DER:020102";
    delta.extensions[1] = (struct pki_extension){"deltaCRL", "critical,DER:020101"};
    revoke_with(&w, memory, &delta, true);
    remembered_free(memory);
    world_free(&w);
}

static void other_trust(void **state)
{
    struct remembered *memory = make_memory();
    struct trust *before, *same, *stranger;
    EVP_PKEY *key = pki_key();
    struct pki_certificate spec;
    X509 *other;
    WORLD(w);

    world_build(&w);
    before = (struct trust *)(uintptr_t)w.request.trust;
    assert_false(ask(memory, &w.request));
    /* a trust file that was read again is another one, whatever is in it */
    same = pki_trust(&w.root, 1);
    w.request.trust = same;
    assert_false(ask(memory, &w.request));
    assert_true(ask(memory, &w.request));
    spec = w.root_spec;
    spec.key = key;
    other = pki_make(&spec);
    stranger = pki_trust(&other, 1);
    w.request.trust = stranger;
    assert_false(ask_at(memory, &w.request, NOW_US, false));
    w.request.trust = before;
    assert_false(ask(memory, &w.request));
    trust_free(same);
    trust_free(stranger);
    X509_free(other);
    EVP_PKEY_free(key);
    remembered_free(memory);
    world_free(&w);
}

/* One setting after the other, each with the verdict it must lead to. */
static void other_settings(void **state)
{
    static const uint8_t strange[1][CHAIN_SPKI_LENGTH] = {{1}};
    static const char *const policies[] = {"1.2.3.4", NULL};
    struct remembered *memory = make_memory();
    struct chain_request request;
    WORLD(w);

#define CHANGED(field, value, accepted)                                                                                \
    request = w.request;                                                                                               \
    request.field = value;                                                                                             \
    assert_false(ask(memory, &w.request));                                                                             \
    assert_true(ask(memory, &w.request));                                                                              \
    assert_false(ask_at(memory, &request, NOW_US, accepted));

    world_build(&w);
    CHANGED(purpose, CHAIN_PURPOSE_SERVER, false)
    CHANGED(revocation, CHAIN_REVOCATION_PREFER, true)
    CHANGED(policy, CHAIN_POLICY_LEGACY, true)
    CHANGED(order, CHAIN_ORDER_OCSP, false)
    CHANGED(depth, 0, false)
    CHANGED(crl_grace, 1, true)
    CHANGED(explicit_policy, true, false)
    CHANGED(inhibit_any, true, true)
    CHANGED(inhibit_mapping, true, true)
    CHANGED(of_crl_issuer, true, true)
    request = w.request;
    request.spkis = strange;
    request.n_spkis = 1;
    assert_false(ask(memory, &w.request));
    assert_false(ask_at(memory, &request, NOW_US, false));
    /* what stands beside the settings: the others stay */
    assert_false(ask(memory, &w.request));
    request = w.request;
    request.stapling = CHAIN_STAPLING_ASKED;
    assert_false(ask(memory, &request));
    request.policies = policies;
    assert_false(ask_at(memory, &request, NOW_US, true));
    assert_false(ask_at(memory, &request, NOW_US, true));
    assert_true(ask(memory, &w.request));
#undef CHANGED
    remembered_free(memory);
    world_free(&w);
}

static void a_pin_is_part_of_it(void **state)
{
    uint8_t pins[2][CHAIN_SPKI_LENGTH] = {{0}};
    unsigned char *der = NULL;
    struct remembered *memory = make_memory();
    int length;
    WORLD(w);

    world_build(&w);
    length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(w.leaf), &der);
    assert_int_equal(EVP_Q_digest(NULL, "SHA256", NULL, der, (size_t)length, pins[0], NULL), 1);
    OPENSSL_free(der);
    w.request.spkis = (const uint8_t(*)[CHAIN_SPKI_LENGTH])pins;
    w.request.n_spkis = 1;
    assert_false(ask(memory, &w.request));
    assert_true(ask(memory, &w.request));
    pins[0][0] ^= 1; /* in the caller's memory: ours is a copy */
    assert_false(ask_at(memory, &w.request, NOW_US, false));
    pins[0][0] ^= 1;
    assert_false(ask(memory, &w.request));
    w.request.n_spkis = 2;
    assert_false(ask(memory, &w.request));
    remembered_free(memory);
    world_free(&w);
}

/* An answer is an argument whose time passes as well; also one that is no good for anything. */
static void ocsp_answers_are_not_kept(void **state)
{
    static const uint8_t nonsense[] = {0x30, 0x03, 0x0a, 0x01, 0x06};
    const struct chain_response response = {.der = nonsense, .length = sizeof(nonsense)};
    struct remembered *memory = make_memory();
    WORLD(w);

    world_build(&w);
    w.request.responses = &response;
    w.request.n_responses = 1;
    assert_false(ask(memory, &w.request));
    assert_false(ask(memory, &w.request));
    w.request.n_responses = 0;
    w.request.staple = response;
    w.request.stapling = CHAIN_STAPLING_ASKED;
    assert_false(ask(memory, &w.request));
    assert_int_equal(remembered_count(memory), 0);
    /* nor does an answer meet a verdict that was reached without it */
    w.request.staple = (struct chain_response){0};
    assert_false(ask(memory, &w.request));
    assert_true(ask(memory, &w.request));
    w.request.staple = response;
    assert_false(ask(memory, &w.request));
    remembered_free(memory);
    world_free(&w);
}

/* The verdict at PKI_NOW is given again until a second before `end`, and reached anew from then on. */
static void ends_at(struct world *w, int64_t end)
{
    struct remembered *memory = make_memory();

    w->request.time = PKI_NOW;
    assert_false(ask(memory, &w->request));
    w->request.time = end - 1;
    assert_true(ask(memory, &w->request));
    w->request.time = end;
    assert_false(ask(memory, &w->request));
    assert_int_equal(remembered_count(memory), 0);
    remembered_free(memory);
}

static void a_leaf_expires(void **state)
{
    struct remembered *memory = make_memory();
    WORLD(w);

    w.leaf_spec.not_after = PKI_NOW + 60;
    world_build(&w);
    ends_at(&w, PKI_NOW + 60);
    w.request.time = PKI_NOW;
    assert_false(ask(memory, &w.request));
    w.request.time = PKI_NOW + 61;
    assert_false(ask_at(memory, &w.request, NOW_US, false));
    remembered_free(memory);
    world_free(&w);
}

/* In its first second it is what it will be; in its last one nobody need remember it any more. */
static void the_seconds_at_the_ends(void **state)
{
    struct remembered *memory = make_memory();
    WORLD(w);

    w.leaf_spec.not_before = PKI_NOW;
    w.leaf_spec.not_after = PKI_NOW + 10;
    w.inter_crl_spec.this_update = PKI_NOW;
    world_build(&w);
    assert_false(ask(memory, &w.request));
    assert_true(ask(memory, &w.request));
    w.request.time = PKI_NOW + 10;
    assert_false(ask(memory, &w.request));
    assert_false(ask(memory, &w.request));
    assert_int_equal(remembered_count(memory), 0);
    remembered_free(memory);
    world_free(&w);
}

static void an_anchor_expires(void **state)
{
    WORLD(w);

    w.root_spec.not_after = PKI_NOW + 3600;
    world_build(&w);
    ends_at(&w, PKI_NOW + 3600);
    world_free(&w);
}

static void a_crl_expires(void **state)
{
    WORLD(w);

    w.root_crl_spec.next_update = PKI_NOW + 600;
    world_build(&w);
    ends_at(&w, PKI_NOW + 600);
    world_free(&w);
}

static void the_grace_of_a_crl_ends(void **state)
{
    WORLD(w);

    w.root_crl_spec.next_update = PKI_NOW - 600;
    w.request.crl_grace = 1000;
    world_build(&w);
    ends_at(&w, PKI_NOW + 400);
    world_free(&w);
}

/* It does not count yet; once it does, it revokes. */
static void a_crl_becomes_valid(void **state)
{
    struct remembered *memory = make_memory();
    struct pki_crl later;
    X509_CRL *crls[3];
    struct crl_snapshot *before;
    WORLD(w);

    world_build(&w);
    later = w.inter_crl_spec;
    later.revoked[0] = 3;
    later.this_update = PKI_NOW + 100;
    crls[0] = w.crls[0];
    crls[1] = w.crls[1];
    crls[2] = pki_make_crl(&later);
    before = (struct crl_snapshot *)(uintptr_t)w.request.crls;
    w.request.crls = pki_snapshot(crls, 3);
    assert_false(ask(memory, &w.request));
    w.request.time = PKI_NOW + 99;
    assert_true(ask(memory, &w.request));
    w.request.time = PKI_NOW + 100;
    assert_false(ask_at(memory, &w.request, NOW_US, false));
    crl_snapshot_free((struct crl_snapshot *)(uintptr_t)w.request.crls);
    w.request.crls = before;
    X509_CRL_free(crls[2]);
    remembered_free(memory);
    world_free(&w);
}

static void the_clock_is_set_back(void **state)
{
    struct remembered *memory = make_memory();
    WORLD(w);

    w.leaf_spec.not_before = PKI_NOW - 60;
    w.leaf_spec.not_after = PKI_NOW + 60;
    world_build(&w);
    assert_false(ask(memory, &w.request));
    assert_true(ask(memory, &w.request));
    /* by a second, and nothing is remembered; by more, and the certificate is not valid yet */
    w.request.time = PKI_NOW - 1;
    assert_false(ask(memory, &w.request));
    w.request.time = PKI_NOW - 61;
    assert_false(ask_at(memory, &w.request, NOW_US, false));
    /* set back to the very second after a while that nobody saw: the verdict is as old as it is */
    w.request.time = PKI_NOW;
    assert_false(ask(memory, &w.request));
    assert_true(ask_at(memory, &w.request, NOW_US + 60 * SECOND_US - 1, true));
    assert_false(ask_at(memory, &w.request, NOW_US + 60 * SECOND_US, true));
    remembered_free(memory);
    world_free(&w);
}

static void the_oldest_makes_room(void **state)
{
    struct remembered *memory = make_memory();
    char name[32];
    WORLD(w);

    world_build(&w);
    w.request.hostname = name;
    for (int i = 0; i < REMEMBERED_MAX; i++) {
        (void)snprintf(name, sizeof(name), "n%d.w.example", i);
        assert_false(ask(memory, &w.request));
    }
    assert_int_equal(remembered_count(memory), REMEMBERED_MAX);
    (void)snprintf(name, sizeof(name), "n0.w.example");
    assert_true(ask(memory, &w.request));
    (void)snprintf(name, sizeof(name), "new.w.example");
    assert_false(ask(memory, &w.request));
    assert_int_equal(remembered_count(memory), REMEMBERED_MAX);
    (void)snprintf(name, sizeof(name), "n0.w.example");
    assert_true(ask(memory, &w.request));
    (void)snprintf(name, sizeof(name), "n1.w.example");
    assert_false(ask(memory, &w.request));
    remembered_free(memory);
    world_free(&w);
}

static void what_is_large_is_not_kept(void **state)
{
    struct remembered *memory = make_memory();
    WORLD(w);

    world_build(&w);
    while (sk_X509_num(w.request.untrusted) < REMEMBERED_CERTIFICATES_MAX)
        assert_true(sk_X509_push(w.request.untrusted, w.inter) > 0);
    assert_false(ask(memory, &w.request));
    assert_true(ask(memory, &w.request));
    assert_true(sk_X509_push(w.request.untrusted, w.inter) > 0);
    assert_false(ask(memory, &w.request));
    assert_false(ask(memory, &w.request));
    remembered_free(memory);
    world_free(&w);
}

static void bytes_are_counted(void **state)
{
    struct remembered *memory = make_memory();
    char *text = malloc(REMEMBERED_BYTES_MAX + 16);
    WORLD(w);

    memset(text, 'x', REMEMBERED_BYTES_MAX + 15);
    text[REMEMBERED_BYTES_MAX + 15] = '\0';
    memcpy(text, "ASN1:UTF8:", 10);
    w.leaf_spec.extensions[4] = (struct pki_extension){"1.2.3.4.5", text};
    world_build(&w);
    assert_false(ask(memory, &w.request));
    assert_false(ask(memory, &w.request));
    assert_int_equal(remembered_count(memory), 0);
    free(text);
    remembered_free(memory);
    world_free(&w);
}

static void cleared_by_hand(void **state)
{
    struct remembered *memory = make_memory();
    WORLD(w);

    world_build(&w);
    assert_false(ask(memory, &w.request));
    remembered_clear(memory);
    assert_int_equal(remembered_count(memory), 0);
    assert_false(ask(memory, &w.request));
    assert_true(ask(memory, &w.request));
    remembered_free(memory);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_verdict_again),
        cmocka_unit_test(nothing_was_added_unseen),
        cmocka_unit_test(without_a_memory),
        cmocka_unit_test(another_name),
        cmocka_unit_test(other_certificates),
        cmocka_unit_test(rejections_are_not_kept),
        cmocka_unit_test(a_crl_that_revokes),
        cmocka_unit_test(a_delta_that_revokes),
        cmocka_unit_test(other_trust),
        cmocka_unit_test(other_settings),
        cmocka_unit_test(a_pin_is_part_of_it),
        cmocka_unit_test(ocsp_answers_are_not_kept),
        cmocka_unit_test(a_leaf_expires),
        cmocka_unit_test(the_seconds_at_the_ends),
        cmocka_unit_test(an_anchor_expires),
        cmocka_unit_test(a_crl_expires),
        cmocka_unit_test(the_grace_of_a_crl_ends),
        cmocka_unit_test(a_crl_becomes_valid),
        cmocka_unit_test(the_clock_is_set_back),
        cmocka_unit_test(the_oldest_makes_room),
        cmocka_unit_test(what_is_large_is_not_kept),
        cmocka_unit_test(bytes_are_counted),
        cmocka_unit_test(cleared_by_hand),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
