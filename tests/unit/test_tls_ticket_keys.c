/* Files of ticket keys: what is taken, what is refused with which words, and that a change is all or nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/secret.h"
#include "tls/ticket_key_file.h"
#include "tls/ticket_keys.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE (TICKET_KEY_FILE_LINE + 2) /* with newline and NUL */

/* Line of a key whose bytes are told by `seed`. */
static char *line_of(uint8_t seed, char out[LINE])
{
    uint8_t bytes[TICKET_KEY_FILE_KEY];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(seed + i * 7);
    assert_int_equal(EVP_EncodeBlock((uint8_t *)out, bytes, sizeof(bytes)), TICKET_KEY_FILE_LINE);
    memcpy(out + TICKET_KEY_FILE_LINE, "\n", 2);
    return out;
}

static int write_file(const char *text, mode_t mode)
{
    char path[] = "/tmp/tokentls-keys-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void must_be_refused(const char *text, const char *why)
{
    struct secret *secret = secret_new(NULL);
    struct error err = ERROR_INIT;
    char *copy = strdup(text);

    assert_non_null(secret);
    assert_int_equal(ticket_key_file_parse(copy, strlen(text), "keys", secret, &err), ERROR_CONFIG);
    if (strcmp(err.text, why) != 0)
        print_error("%s\n", err.text);
    assert_string_equal(err.text, why);
    for (size_t i = 0; i < strlen(text); i++)
        assert_int_equal(copy[i], 0);
    free(copy);
    secret_free(secret);
}

static void what_is_wrong_is_said_with_its_line(void **state)
{
    char text[LINE * (TICKET_KEYS_MAX + 2)], a[LINE], b[LINE];

    (void)state;
    must_be_refused("", "keys: no key in the file");
    must_be_refused("# a comment\n\n", "keys: no key in the file");
    must_be_refused("0123456789abcdef", "keys:1: not 80 bytes in base64 (108 characters in one line)");
    (void)snprintf(text, sizeof(text), "%s%.64s\n", line_of(1, a), line_of(2, b));
    must_be_refused(text, "keys:2: not 80 bytes in base64 (108 characters in one line)");
    (void)snprintf(text, sizeof(text), "#\n%s", line_of(1, a));
    text[12] = '!';
    must_be_refused(text, "keys:2: not base64");
    (void)snprintf(text, sizeof(text), "%s", line_of(1, a));
    text[12] = '=';
    must_be_refused(text, "keys:1: not base64");
    (void)snprintf(text, sizeof(text), "%s", line_of(1, a));
    text[TICKET_KEY_FILE_LINE - 1] = 'A';
    must_be_refused(text, "keys:1: not base64");
    (void)snprintf(text, sizeof(text), "%s%s%s", line_of(1, a), line_of(2, b), line_of(1, a));
    must_be_refused(text, "keys:3: a key of this name stands above");
    memset(text, 'A', TICKET_KEY_FILE_LINE);
    memcpy(text + TICKET_KEY_FILE_LINE - 1, "=", 2);
    must_be_refused(text, "keys:1: not random: make a key with openssl rand");
    text[0] = '\0';
    for (uint8_t i = 0; i <= TICKET_KEYS_MAX; i++)
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s", line_of(i, a));
    must_be_refused(text, "keys:13: too many keys");
}

static void a_file_is_private(void **state)
{
    char text[LINE];
    struct error err = ERROR_INIT;
    int fd = write_file(line_of(1, text), 0640), folder = open("/tmp", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_null(ticket_keys_open(fd, "keys", &err));
    assert_string_equal(err.text, "keys: open to group or others (mode 0640): chmod 600");
    assert_null(ticket_keys_open(folder, "keys", &err));
    assert_string_equal(err.text, "keys: not a regular file");
    (void)close(fd);
    (void)close(folder);
    assert_int_equal(ticket_key_file_open("/nonexistent/keys", &fd, &err), ERROR_CONFIG);
    assert_string_equal(err.text, "/nonexistent/keys: No such file or directory");
}

static struct ticket_keys *open_keys(const char *text)
{
    int fd = write_file(text, 0600);
    struct ticket_keys *keys = ticket_keys_open(fd, "keys", NULL);

    assert_non_null(keys);
    (void)close(fd);
    return keys;
}

static bool knows(struct ticket_keys *keys, uint8_t seed, bool *ret_current)
{
    struct ticket_keys_one one;
    uint8_t name[TICKET_KEYS_NAME];

    for (size_t i = 0; i < sizeof(name); i++)
        name[i] = (uint8_t)(seed + i * 7);
    if (!ticket_keys_find(keys, name, &one, ret_current))
        return false;
    assert_memory_equal(one.name, name, sizeof(name));
    assert_int_equal(one.cipher[0], (uint8_t)(seed + 16 * 7));
    assert_int_equal(one.mac[31], (uint8_t)(seed + 79 * 7));
    return true;
}

static void the_first_seals_and_all_open(void **state)
{
    char text[4 * LINE], a[LINE], b[LINE], names[TICKET_KEYS_TEXT_MAX];
    struct ticket_keys_one one;
    struct ticket_keys *keys;
    bool current = false;

    (void)state;
    (void)snprintf(text, sizeof(text), "# today\r\n%s\n# yesterday\n%.*s", line_of(9, a), TICKET_KEY_FILE_LINE,
                   line_of(3, b));
    keys = open_keys(text);
    assert_true(ticket_keys_current(keys, &one));
    assert_int_equal(one.name[0], 9);
    assert_true(knows(keys, 9, &current) && current);
    assert_true(knows(keys, 3, &current) && !current);
    assert_false(knows(keys, 4, &current));
    assert_string_equal(ticket_keys_text(keys, names), "0910171e,030a1118");
    ticket_keys_free(keys);
}

static void a_change_is_all_or_nothing(void **state)
{
    char text[4 * LINE], a[LINE], b[LINE];
    struct ticket_keys *keys = open_keys(line_of(1, a));
    struct error err = ERROR_INIT;
    bool current = false;
    int fd;

    (void)state;
    (void)snprintf(text, sizeof(text), "%scut off", line_of(2, b));
    fd = write_file(text, 0600);
    assert_int_equal(ticket_keys_replace(keys, fd, "keys", &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "keys:2: "));
    (void)close(fd);
    assert_true(knows(keys, 1, &current) && current);
    assert_false(knows(keys, 2, &current));
    (void)snprintf(text, sizeof(text), "%s%s", line_of(2, b), line_of(1, a));
    fd = write_file(text, 0600);
    assert_int_equal(ticket_keys_replace(keys, fd, "keys", &err), ERROR_NONE);
    (void)close(fd);
    assert_true(knows(keys, 2, &current) && current);
    assert_true(knows(keys, 1, &current) && !current);
    fd = write_file(line_of(2, b), 0600);
    assert_int_equal(ticket_keys_replace(keys, fd, "keys", &err), ERROR_NONE);
    (void)close(fd);
    assert_false(knows(keys, 1, &current));
    ticket_keys_free(keys);
}

static void keys_drawn_here_are_one_secret(void **state)
{
    struct ticket_keys *keys = ticket_keys_new(NULL);
    struct ticket_keys_one one, again;

    (void)state;
    assert_non_null(keys);
    assert_true(ticket_keys_current(keys, &one) && ticket_keys_current(keys, &again));
    assert_memory_equal(&one, &again, sizeof(one));
    ticket_keys_free(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wrong_is_said_with_its_line), cmocka_unit_test(a_file_is_private),
        cmocka_unit_test(the_first_seals_and_all_open),        cmocka_unit_test(a_change_is_all_or_nothing),
        cmocka_unit_test(keys_drawn_here_are_one_secret),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
