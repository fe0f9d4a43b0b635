#include "client/unlock_pin.h"

#include "base/json.h"
#include "base/text.h"
#include "client/control_client.h"
#include "client/pin_choice.h"
#include "pkcs11/keyholder/harden.h"
#include "pkcs11/keyholder/unlock_client.h"
#include "pkcs11/pin.h"
#include "pkcs11/terminal.h"

#include <stdio.h>
#include <string.h>

#define PLACES_MAX 16 /* tokens of one identity */

static bool holds(const cJSON *keyholder, const char *identity)
{
    const cJSON *name;

    cJSON_ArrayForEach(name, cJSON_GetObjectItemCaseSensitive(keyholder, "identities"))
    {
        if (text_equal(cJSON_GetStringValue(name), identity))
            return true;
    }
    return false;
}

/* Where the keyholders of this identity listen: one for each token it is on. */
struct places {
    char paths[PLACES_MAX][UNLOCK_CLIENT_PATH_MAX];
    size_t n;
};

/* As the daemon says; none is no error. */
static result ask_daemon(const struct unlock_pin *what, struct places *places, struct error *err)
{
    const struct control_order order = {.kind = CONTROL_ORDER_STATUS};
    const cJSON *keyholder;
    cJSON *answer = NULL;
    result r = control_client_ask(what->control, &order, &answer, err);

    if (r == ERROR_NONE)
        r = control_client_judge(answer, err);
    cJSON_ArrayForEach(keyholder, cJSON_GetObjectItemCaseSensitive(answer, "keyholders"))
    {
        const char *socket = json_text(keyholder, "unlock_socket");

        if (socket != NULL && strlen(socket) < UNLOCK_CLIENT_PATH_MAX && holds(keyholder, what->identity) &&
            places->n < PLACES_MAX)
            memcpy(places->paths[places->n++], socket, strlen(socket) + 1);
    }
    cJSON_Delete(answer);
    return r;
}

static result read_pin(const struct unlock_pin *what, struct secret **ret, struct error *err)
{
    const struct pin_choice choice = {.option = what->pin_source, .terminal = terminal_is_there()};
    const struct pin_prompt prompt = {.identity = what->identity};
    struct pin_source *source = NULL;
    char text[PIN_CHOICE_MAX];
    result r = pin_choice_make(&choice, text, sizeof(text), err);

    if (r == ERROR_NONE && text[0] == '\0')
        r = error_set(err, ERROR_PIN, "\"%s\" waits for its PIN, and there is no terminal to ask on: use --pin-source",
                      what->identity);
    if (r == ERROR_NONE)
        r = pin_source_new(text, -1, &source, err);
    if (r != ERROR_NONE)
        return r;
    r = pin_source_get(source, &prompt, ret, err);
    pin_source_free(source);
    return r;
}

/* The first that does not take it ends it: on another token a wrong PIN would cost another try. */
static result give(const struct unlock_pin *what, const struct places *places, struct error *err)
{
    struct secret *pin = NULL;
    result r = harden_forbid_dumps(err);

    if (r == ERROR_NONE)
        r = read_pin(what, &pin, err);
    for (size_t i = 0; i < places->n && r == ERROR_NONE; i++)
        r = unlock_client_give(places->paths[i], what->identity, pin, err);
    secret_free(pin);
    return r;
}

/* What the keyholders make of a PIN; the first one speaks for all, which have one PIN source. */
static result check(const struct unlock_pin *what, const struct places *places, bool *ret_give, struct error *err)
{
    struct unlock_message_hello hello;
    result r = unlock_client_ask(places->paths[0], &hello, err);

    if (r != ERROR_NONE)
        return r;
    if (what->pin_source != NULL && hello.pin == UNLOCK_MESSAGE_REFUSED)
        r = error_set(err, ERROR_USAGE, "the PIN of \"%s\" comes from %s, not from --pin-source: correct it there",
                      what->identity, hello.source[0] == '\0' ? "nowhere (no pin-source is configured)" : hello.source);
    *ret_give = r == ERROR_NONE && (what->pin_source != NULL || hello.pin == UNLOCK_MESSAGE_WANTED);
    unlock_message_free_hello(&hello);
    return r;
}

result unlock_pin_give(const struct unlock_pin *what, bool *ret_given, struct error *err)
{
    struct places places = {.n = 0};
    result r;

    *ret_given = false;
    if (what->folder == NULL)
        r = ask_daemon(what, &places, err);
    else
        r = unlock_client_find(what->folder, what->identity, places.paths[0], err);
    if (r != ERROR_NONE)
        return r;
    places.n = what->folder == NULL ? places.n : 1;
    if (places.n == 0 && what->pin_source != NULL)
        return error_set(err, ERROR_TOKEN, "no keyholder of \"%s\" listens for a PIN (see tokentls status)",
                         what->identity);
    if (places.n > 0)
        r = check(what, &places, ret_given, err);
    return *ret_given ? give(what, &places, err) : r;
}
