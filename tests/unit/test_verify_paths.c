/* Path candidates, and chains that were built to explode. */
#include "tls/verify/paths.h"
#include "verify_pki.h"

/* Cross-signed certificates of one name on each level: with eight levels, 12^8 paths. */
#define LEVELS 8
#define SIBLINGS 12

struct maze {
    EVP_PKEY *key; /* of everybody: all signatures inside the maze are good */
    EVP_PKEY *root_key;
    X509 *root, *leaf;
    STACK_OF(X509) * untrusted;
    struct trust *trust;
};

static X509 *member(struct maze *maze, const char *cn, const char *issuer_cn, long serial, EVP_PKEY *signer)
{
    const struct pki_certificate issuer = {.cn = issuer_cn, .key = maze->key, .serial = 1};
    X509 *parent = pki_make(&issuer);
    const struct pki_certificate spec = {.cn = cn,
                                         .key = maze->key,
                                         .issuer = parent,
                                         .issuer_key = signer,
                                         .serial = serial,
                                         .extensions = {{"basicConstraints", "critical,CA:TRUE"}}};
    X509 *made = pki_decoded(pki_make(&spec));

    X509_free(parent);
    return made;
}

/* The top level is signed by the root only when `open`. */
static void maze_build(struct maze *maze, bool open)
{
    struct pki_certificate root = {.cn = "Root", .serial = 1, .extensions = {{"basicConstraints", "critical,CA:TRUE"}}};
    char cn[16], up[16];

    maze->key = pki_key();
    maze->root_key = pki_key();
    root.key = maze->root_key;
    maze->root = pki_make(&root);
    maze->untrusted = sk_X509_new_null();
    for (int level = 1; level <= LEVELS; level++) {
        (void)snprintf(cn, sizeof(cn), "L%d", level);
        (void)snprintf(up, sizeof(up), level == LEVELS ? "Root" : "L%d", level + 1);
        for (int i = 0; i < SIBLINGS; i++) {
            EVP_PKEY *signer = level == LEVELS && open ? maze->root_key : maze->key;

            assert_true(sk_X509_push(maze->untrusted, member(maze, cn, up, 100 * level + i, signer)) > 0);
        }
    }
    maze->leaf = member(maze, "leaf", "L1", 7, maze->key);
    maze->trust = pki_trust(&maze->root, 1);
}

static void maze_free(struct maze *maze)
{
    sk_X509_pop_free(maze->untrusted, X509_free);
    X509_free(maze->root);
    X509_free(maze->leaf);
    EVP_PKEY_free(maze->key);
    EVP_PKEY_free(maze->root_key);
    trust_free(maze->trust);
}

static void count_paths(struct maze *maze, int depth, int expected)
{
    struct paths paths;

    paths_find(maze->leaf, maze->untrusted, trust_certificates(maze->trust), depth, &paths);
    assert_int_equal(paths.n, expected);
    for (int i = 0; i < paths.n; i++)
        assert_int_equal(sk_X509_num(paths.intermediates[i]), LEVELS);
    paths_free(&paths);
}

static void paths_are_limited(void **state)
{
    struct maze maze;

    (void)state;
    maze_build(&maze, true);
    count_paths(&maze, LEVELS, PATHS_MAX);
    count_paths(&maze, LEVELS - 1, 0);
    maze_free(&maze);
}

/* Nothing in it carries the signature of an anchor, so there is no path to try. */
static void closed_maze_has_no_path(void **state)
{
    struct maze maze;

    (void)state;
    maze_build(&maze, false);
    count_paths(&maze, LEVELS, 0);
    maze_free(&maze);
}

static void expect(struct maze *maze, bool accepted, const char *check)
{
    const struct chain_request request = {.leaf = maze->leaf,
                                          .untrusted = maze->untrusted,
                                          .trust = maze->trust,
                                          .time = PKI_NOW,
                                          .depth = LEVELS,
                                          .revocation = CHAIN_REVOCATION_OFF};
    struct verdict verdict;

    chain_verify(&request, &verdict);
    assert_int_equal(verdict.accepted, accepted);
    assert_string_equal(verdict.reason.check, check);
    verdict_free(&verdict);
}

static void exploding_chains_end(void **state)
{
    struct maze maze;

    (void)state;
    maze_build(&maze, true);
    expect(&maze, true, "");
    maze_free(&maze);
    maze_build(&maze, false);
    expect(&maze, false, "signature");
    maze_free(&maze);
}

/* The one good certificate stands last among hundreds of namesakes that the root has not signed. */
static void good_path_among_namesakes(void **state)
{
    struct maze maze;
    STACK_OF(X509) * untrusted;

    (void)state;
    maze_build(&maze, true);
    untrusted = sk_X509_new_null();
    for (int i = 0; i < 40; i++)
        assert_true(sk_X509_push(untrusted, member(&maze, "L1", "Root", 1000 + i, maze.key)) > 0);
    assert_true(sk_X509_push(untrusted, member(&maze, "L1", "Root", 2000, maze.root_key)) > 0);
    sk_X509_pop_free(maze.untrusted, X509_free);
    maze.untrusted = untrusted;
    expect(&maze, true, "");
    maze_free(&maze);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_limited),
        cmocka_unit_test(closed_maze_has_no_path),
        cmocka_unit_test(exploding_chains_end),
        cmocka_unit_test(good_path_among_namesakes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
