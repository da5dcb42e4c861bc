// What the locks cost that a task context's users could take: ours beside the usual ones.
#pragma once

namespace lbrd::daemon {

struct LockSettings {
  int batches = 400;
  int pairs = 2000;  // lock + unlock, a batch
  int writes = 20'000;
};

void PrintReadPairs(const LockSettings& settings);
void PrintWritePairs(const LockSettings& settings);
// liburcu's flavours, as they are called: what each read section costs.
void PrintRcuFlavours(const LockSettings& settings);

}  // namespace lbrd::daemon
