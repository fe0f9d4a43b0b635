/*
 * Counters that outlive the process: fixed records in a file that every process maps (TOKENTLS_FAULTS_COUNTERS). An
 * increment is one atomic addition to shared memory, so nothing is lost when the next instruction is abort(). Without
 * the variable the records live in private memory and serve `times=` only.
 *
 * Layout (host byte order; faults.py reads it): a header of 64 bytes {magic[16], u32 records, u32 unused, u64
 * generation, padding}, then records of 64 bytes {name[48], u64 total, u64 turns}.
 */
#ifndef TOKENTLS_TESTS_MOCK_MODULE_COUNTERS_H
#define TOKENTLS_TESTS_MOCK_MODULE_COUNTERS_H

#include <stdint.h>

#define COUNTERS_NAME_MAX 48 /* bytes, with the NUL */
#define COUNTERS_RECORDS 160 /* room in the file: functions, faults and violations */

/*
 * Map the file and give record i the name names[i]; n names, at most COUNTERS_RECORDS. Called once per process, before
 * threads. A file that cannot be used ends the process with a message: a test that counts nothing proves nothing.
 */
void counters_open(const char *const *names, unsigned n);

/* total += 1. Any thread. */
void counters_add(unsigned record);

/* Number of this turn of the record since the generation began, from 0, over all processes. Any thread. */
uint64_t counters_turn(unsigned record);

/* A new generation (the control file has changed) sets every record's turns to 0; the same one changes nothing. */
void counters_generation(uint64_t generation);

#endif
