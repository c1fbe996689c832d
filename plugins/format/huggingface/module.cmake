# The Python file is a part of the module, which is built again when it changes.
target_compile_definitions(${MODULE} PRIVATE MODELING="${folder}/modeling_tandem.py")
set_source_files_properties(${folder}/huggingface.c PROPERTIES OBJECT_DEPENDS ${folder}/modeling_tandem.py)
