/* PIN sources in a configuration: their form, and that no PIN file is where the network process may read. */
#ifndef TOKENTLS_DAEMON_SETTINGS_PIN_H
#define TOKENTLS_DAEMON_SETTINGS_PIN_H

#include "daemon/settings.h"

/*
 * Check an identity's pin-source and make a relative file: path absolute; an empty one or "none" becomes NULL. Errors
 * are added with the line of the option.
 */
void settings_pin_check(const struct config *config, struct settings_identity *identity, struct config_errors *errors);

/*
 * The file a PIN is read from, malloc'ed; NULL when the source is no file (or memory is exhausted). credential: files
 * are in $CREDENTIALS_DIRECTORY.
 */
char *settings_pin_file(const char *pin_source);

/* True when `file` is `allowed` or lies below it, symbolic links followed as far as the parts exist. */
bool settings_pin_is_below(const char *file, const char *allowed);

#endif
