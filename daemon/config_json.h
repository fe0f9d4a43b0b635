/*
 * A checked configuration as JSON, for programs that want to know what a daemon would do (`tokentls doctor`): each
 * option of each section with the value that counts, defaults included.
 */
#ifndef TOKENTLS_DAEMON_CONFIG_JSON_H
#define TOKENTLS_DAEMON_CONFIG_JSON_H

#include "daemon/config.h"

#include <cjson/cJSON.h>

/*
 * {"kind": name of the section or "", "name": title or null, "line", "options": {name: value}, "sections": [...]}.
 * Durations are milliseconds, paths absolute, "auto" numbers 0, what has no value null. The caller owns it.
 */
cJSON *config_json_tree(const struct config *config);

#endif
