/* Which PIN source a command uses: the option, then the URI's pin-source, then the terminal, else none. */
#ifndef TOKENTLS_CLIENT_PIN_CHOICE_H
#define TOKENTLS_CLIENT_PIN_CHOICE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define PIN_CHOICE_MAX 4352 /* bytes of a PIN source's text, with the NUL: a path and its prefix */

/*
 * Choose. `option`: what --pin-source said, or NULL. `uri_source`: the pin-source attribute of the URI (RFC 7512 2.4:
 * a path or a file: URI; "|COMMAND" is refused), or NULL. `terminal`: a person can be asked. *ret_text (size bytes)
 * becomes a text for pin_source_new() with an absolute path, or "" when nobody can give a PIN. ERROR_CONFIG for a
 * source that is refused, ERROR_IO when the current folder is not known. The text of an error never repeats the source:
 * it could be the PIN.
 */
struct pin_choice {
    const char *option, *uri_source;
    bool terminal;
};
MUST_USE result pin_choice_make(const struct pin_choice *choice, char *ret_text, size_t size, struct error *err);

/* True when a person is asked with this source, who takes his time. */
bool pin_choice_asks(const char *source);

#endif
