#include "daemon/sample_memory.h"

namespace lbrd::daemon {

SampleMemory& SampleMemory::OfProcess() {
  static SampleMemory memory;
  return memory;
}

}  // namespace lbrd::daemon
