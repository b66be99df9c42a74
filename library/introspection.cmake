# What makes the library usable from other languages: GIR, typelib, vapi; and its reference, with the target "reference".
#
# The scanner builds and runs a program of its own against the library, which a sanitizer's runtime gets in the way of.

option (MILLRACE_INTROSPECTION "Build GIR, typelib and vapi (needs gobject-introspection and vapigen)" ON)
if (NOT MILLRACE_INTROSPECTION OR MILLRACE_SANITIZE)
  return ()
endif ()
foreach (tool g-ir-scanner g-ir-compiler vapigen)
  find_program (${tool}_PROGRAM ${tool} REQUIRED)
endforeach ()

set (gir ${CMAKE_CURRENT_BINARY_DIR}/Millrace-1.0.gir)
set (typelib ${CMAKE_CURRENT_BINARY_DIR}/Millrace-1.0.typelib)
set (vapi ${CMAKE_CURRENT_BINARY_DIR}/millrace-1.0.vapi)
file (GLOB introspected_headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/millrace/*.h)
set (introspected_sources ${sources})
list (FILTER introspected_sources INCLUDE REGEX "/(error|generator|generator_models|generator_requests|meta|model|model_text|request|request_parameter|stream)\\.cpp$")
set (libdir ${PROJECT_BINARY_DIR}/lib)

# The scanner's program asks for every type, and GStreamer's need an initialized GStreamer.
add_custom_command (OUTPUT ${gir}
  COMMAND ${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${libdir} GST_REGISTRY_DISABLE=yes CC=${CMAKE_C_COMPILER}
    ${g-ir-scanner_PROGRAM} --quiet --warn-all --warn-error --namespace=Millrace --nsversion=1.0
    --identifier-prefix=Millrace --symbol-prefix=millrace --include=Gst-1.0 --include=Gio-2.0
    --pkg=gstreamer-1.0 --pkg=gio-2.0 --pkg-export=millrace-1.0 --c-include=millrace/millrace.h
    "--add-init-section=extern void gst_init (int *, char ***); gst_init (NULL, NULL);"
    --library=millrace-1.0 --library-path=${libdir} -L${libdir} -I${CMAKE_CURRENT_SOURCE_DIR} --output=${gir}
    ${introspected_headers} ${introspected_sources}
  DEPENDS millrace ${introspected_headers} ${introspected_sources}
  WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR} COMMENT "Introspecting libmillrace-1.0" VERBATIM)
add_custom_command (OUTPUT ${typelib}
  COMMAND ${g-ir-compiler_PROGRAM} ${gir} --output=${typelib}
  DEPENDS ${gir} COMMENT "Compiling Millrace-1.0.typelib" VERBATIM)
add_custom_command (OUTPUT ${vapi}
  COMMAND ${vapigen_PROGRAM} --quiet --library=millrace-1.0 --pkg=gstreamer-1.0 --pkg=gio-2.0
    --directory=${CMAKE_CURRENT_BINARY_DIR} ${gir}
  DEPENDS ${gir} COMMENT "Generating millrace-1.0.vapi" VERBATIM)
file (WRITE ${CMAKE_CURRENT_BINARY_DIR}/millrace-1.0.deps "gstreamer-1.0\ngio-2.0\n")
add_custom_target (introspection ALL DEPENDS ${typelib} ${vapi})

install (FILES ${gir} DESTINATION ${CMAKE_INSTALL_DATADIR}/gir-1.0)
install (FILES ${typelib} DESTINATION ${CMAKE_INSTALL_LIBDIR}/girepository-1.0)
install (FILES ${vapi} ${CMAKE_CURRENT_BINARY_DIR}/millrace-1.0.deps DESTINATION ${CMAKE_INSTALL_DATADIR}/vala/vapi)

# PyGObject looks for a package's overrides in each folder of its path.
configure_file (python/Millrace.py ${CMAKE_CURRENT_BINARY_DIR}/python/gi/overrides/Millrace.py COPYONLY)
set (MILLRACE_PYTHON_DIRECTORY lib/python3/dist-packages CACHE STRING
  "Where Python finds packages, relative to the prefix; Debian's Python: lib/python3/dist-packages in /usr")
install (FILES python/Millrace.py DESTINATION ${MILLRACE_PYTHON_DIRECTORY}/gi/overrides)

find_program (gi-docgen_PROGRAM gi-docgen)
if (gi-docgen_PROGRAM)
  add_custom_target (reference
    COMMAND ${gi-docgen_PROGRAM} generate --quiet --no-namespace-dir --config=${CMAKE_CURRENT_SOURCE_DIR}/Millrace.toml
      --content-dir=${CMAKE_CURRENT_SOURCE_DIR} --output-dir=${PROJECT_BINARY_DIR}/reference ${gir}
    DEPENDS ${gir} ${CMAKE_CURRENT_SOURCE_DIR}/Millrace.toml COMMENT "Writing the reference to reference/index.html" VERBATIM)
endif ()
